"""New shards from tables: prompts are joined, rewritten and painted, and packed like what was downloaded."""
