"""Production tasks that run against a cloud as people run them, and as they are cut short."""
