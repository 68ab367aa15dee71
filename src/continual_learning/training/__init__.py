"""Gradient descent and training examples, shared by several strategies."""
