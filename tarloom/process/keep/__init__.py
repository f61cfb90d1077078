"""Curated copies of a dataset, and how many of its samples agree with a condition."""
