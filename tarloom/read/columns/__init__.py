"""Columns of metadata and sidecars: joined by key, asked in SQL."""
