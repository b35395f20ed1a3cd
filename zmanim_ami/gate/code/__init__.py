"""Checks of the code: Python, Go, types, directions of imports, and the unit tests."""
