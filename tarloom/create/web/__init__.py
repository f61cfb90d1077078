"""Bytes behind URLs: one request, what is tried again, kindness to hosts, and whom not to ask."""
