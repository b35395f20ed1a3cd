"""Stand-ins for what the tools are built with."""
