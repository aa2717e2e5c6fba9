"""From files to an immutable dataset version."""
