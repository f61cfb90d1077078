"""Texts rewritten by a language model: prompts enriched, captions said anew. Stands on the caption room's backends."""
