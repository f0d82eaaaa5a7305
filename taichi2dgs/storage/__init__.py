"""Pictures and Gaussians on disk."""
