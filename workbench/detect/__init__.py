"""What several words look for in content."""
