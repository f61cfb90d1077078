"""Tars: headers, the walk over them, and writing."""
