"""IAM: which actions a call requires, who makes it, and whether policies allow it."""
