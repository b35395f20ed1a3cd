"""The production path: build the binary, bake the image, verify it on a fresh instance, publish it."""
