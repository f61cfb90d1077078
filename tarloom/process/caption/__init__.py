"""Captions by vision-language models: what a user can choose, and the backends that answer."""
