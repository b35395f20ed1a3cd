"""Launching instances: RunInstances, and whatever else of AWS launches by the same rules."""
