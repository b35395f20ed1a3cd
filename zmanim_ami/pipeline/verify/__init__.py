"""verify-ami: an image is booted and asked; what it answered is reported."""
