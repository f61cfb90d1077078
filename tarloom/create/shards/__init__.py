"""Rows become the files of a shard, in input order, committed whole."""
