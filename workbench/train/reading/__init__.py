"""What a training reads: made once for a dataset version, then by position, the same for any number of ranks."""
