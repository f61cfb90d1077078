"""From shards to batches: one read path, and one file per engine that maps it."""
