"""PyTorch networks that predict where Gaussians go and what they look like; no Taichi here."""
