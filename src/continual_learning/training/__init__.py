"""Gradient descent and its material: what several strategies share."""
