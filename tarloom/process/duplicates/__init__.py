"""Copies among a dataset's pictures, found by their perceptual hashes."""
