"""What a long session of tests says while it runs: pytest plugins."""
