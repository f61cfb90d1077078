"""Shards as a source: their samples and sidecars are cut anew."""
