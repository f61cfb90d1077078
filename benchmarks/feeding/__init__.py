"""The sides of feed_vs_peers.py: each a program that runs in its project's own environment."""
