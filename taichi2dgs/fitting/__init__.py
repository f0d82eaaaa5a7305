"""Fits of Gaussians to pictures."""
