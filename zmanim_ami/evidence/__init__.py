"""The evidence page: what was proven of an image and what was not, as one HTML page that needs nothing else."""
