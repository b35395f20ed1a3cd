"""Accounts with all that a task needs, whose instances answer as a test wants it to."""
