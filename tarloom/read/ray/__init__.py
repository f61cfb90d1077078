"""Ray's actors and Ray Data read pieces, and write shards and sidecars."""
