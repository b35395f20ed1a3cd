"""The tasks, by what they are about; tasks.py puts them together."""
