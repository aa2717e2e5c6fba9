"""What a model is trained to do, one objective a file."""
