"""Spark reads pieces, and tables natively."""
