"""Tables curated: one question in SQL over metadata and sidecars, with the same answer from every engine."""
