"""The training feed: batches in an order that is a pure function, divided exactly among any number of ranks."""
