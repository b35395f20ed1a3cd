"""What the image promises, asked of a machine or of an image in words that serve every kind of machine."""
