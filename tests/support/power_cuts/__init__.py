"""A guest for power cuts, and what runs in it."""
