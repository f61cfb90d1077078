"""Where shard work runs: one interface (base), one file per adapter (local, ray, spark)."""
