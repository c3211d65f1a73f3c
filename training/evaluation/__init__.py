"""Judging a model: what it reaches, how sure that is, and whether it may serve."""
