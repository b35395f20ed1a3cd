"""The user's cache: what it holds, and what goes when that is more than it may hold."""
