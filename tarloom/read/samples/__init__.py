"""A piece becomes samples: the one read path."""
