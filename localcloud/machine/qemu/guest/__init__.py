"""What the local cloud puts on a machine's disk, beside the image's own files."""
