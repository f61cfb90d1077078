"""Vectors of pictures and texts: what a user can choose, and the models that make them."""
