"""Training the Deep Gaussian Prior: Stage I (positions) and Stage II (attributes)."""
