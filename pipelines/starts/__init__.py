"""Starts: what a fit begins from."""
