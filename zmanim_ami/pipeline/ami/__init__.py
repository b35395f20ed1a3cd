"""build-ami: the API's binary, Packer, the image that comes of it, and what a run left behind."""
