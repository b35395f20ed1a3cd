"""The local cloud without machines, for tests: what decides about calls, and machines that are only records."""
