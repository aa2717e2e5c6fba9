"""What a training is at a step: written while it goes on, kept, copied into memory, read by any number of ranks."""
