"""What `python -m benchmarks.read_vs_peers` compares: one file for each kind of reading, each with COMPARISONS."""
