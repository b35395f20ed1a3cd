"""IAM: what a call asks for, whose it is, and whether policies allow it."""
