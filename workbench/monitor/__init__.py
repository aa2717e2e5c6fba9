"""What runs, how it fares, who is told."""
