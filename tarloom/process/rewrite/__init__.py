"""Texts rewritten by a language model, through the same backends as captioning (process/caption)."""
