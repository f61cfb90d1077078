"""From samples in memory to batches: decoded, cut, chosen, stacked."""
