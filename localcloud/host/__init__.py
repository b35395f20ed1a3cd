"""What a cloud needs of its host and does to it: programs, control groups, mounts, certificates."""
