"""Secrets: read from Parameter Store, escaped, and put where the one unit that needs each gets it."""
