"""Releases of the API: fetched, checked, adopted, watched, rolled back."""
