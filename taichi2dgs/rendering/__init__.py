"""Renders of Gaussians, differentiable and on any device."""
