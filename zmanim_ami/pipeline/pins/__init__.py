"""Newer versions of what is pinned, and whether what is pinned can be had."""
