"""A bad day of AWS's: reads that lag, calls that are throttled, answers that get lost. Switched off by default."""
