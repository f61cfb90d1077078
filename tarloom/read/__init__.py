"""Shards to samples: one read path (pieces -> batches), and one small adapter for every engine that maps over it."""
