"""The production path: build the binary and the image, verify it on a fresh instance, publish it."""
