"""Baselines and controls: what the methods are measured against."""
