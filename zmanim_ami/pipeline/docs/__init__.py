"""docs/ami-contents.md: what is in the image."""
