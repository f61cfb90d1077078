"""Which shards there are, what they hold, and the pieces they are read in."""
