"""publish-ssm: a verified image becomes the one that the world launches."""
