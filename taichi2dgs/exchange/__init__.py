"""Files of others: splats for 3D viewers, arrays for NumPy, drawings; and what can be read back."""
