"""From shards to sidecars: stages, and the one loop that runs them."""
