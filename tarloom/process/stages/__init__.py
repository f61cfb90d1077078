"""Stages that need no engine: what a picture is like, and what follows from vectors and captions."""
