"""Coupled processes on Dask workers: claimed, started, watched, told things, ended together. Knows no framework."""
