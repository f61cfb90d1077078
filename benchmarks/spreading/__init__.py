"""One job in five ways, for benchmarks.sequential_vs_parallel."""
