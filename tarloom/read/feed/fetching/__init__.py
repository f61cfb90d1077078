"""Samples from shards into memory: ahead of their turn, within bounds."""
