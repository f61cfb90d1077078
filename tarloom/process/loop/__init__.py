"""The one loop over a shard: read, decode, ask the stages, keep their answers; whole, or in pieces between machines."""
