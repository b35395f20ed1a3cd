"""Checks of the rest of the repository: policies, workflows, documents, secrets, and whether it was rehearsed."""
