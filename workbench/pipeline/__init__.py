"""Notebooks as steps: what needs what, what is redone, what came out."""
