"""Prompt tables: read, joined with details, and made into the rows of shards to be."""
