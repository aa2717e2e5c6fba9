"""Doors through which others read what a monitor knows; one a file."""
