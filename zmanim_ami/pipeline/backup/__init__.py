"""The backups of instances that run, asked for from outside."""
