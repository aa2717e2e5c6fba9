"""Engines: each file computes one family of models behind the protocol in ``serve/engine.py``."""
