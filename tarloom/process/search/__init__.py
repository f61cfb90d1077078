"""Similarity search: vectors of a dataset or of a parquet file in one memory-mapped file, and what is nearest."""
