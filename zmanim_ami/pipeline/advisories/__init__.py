"""What is wrong with what is inside an image, as far as anybody says: the security advisories of its distribution."""
