"""The cloud's network: its link to the host, its bridge, and the egress proxy."""
