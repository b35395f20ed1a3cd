"""A backup's run, what is kept of the past ones, and getting one back."""
