"""What lies on disk: names, storage, tars, indexes, metadata, sidecars, and the proof that they agree."""
