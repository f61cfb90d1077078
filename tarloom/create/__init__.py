"""From inputs to shards: sources, plan, fetch, images, pack."""
