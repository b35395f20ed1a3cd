"""What the campaign of faults leaves behind."""
