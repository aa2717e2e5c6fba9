"""Protocols: each file speaks one dialect of HTTP to clients."""
