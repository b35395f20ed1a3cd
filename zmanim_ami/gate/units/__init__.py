"""Checks of the units that ship: each by itself, and all together."""
