"""The instances that run an image: launching one, what each is and how it does, and putting a new one in its place."""
