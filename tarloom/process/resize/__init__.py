"""Resizing one picture or a folder of them."""
