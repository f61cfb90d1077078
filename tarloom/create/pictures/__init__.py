"""Pictures in, pictures of the wanted size and format out. No I/O."""
