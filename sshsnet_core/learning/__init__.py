"""Sections 3.1.2, 3.2 and 3.4: losses, cross pseudo supervision, the training loop and inference."""
