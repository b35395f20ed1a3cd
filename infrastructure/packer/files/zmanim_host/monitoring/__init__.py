"""What this machine says of itself while it runs: metrics whose absence is an alarm."""
