"""Questions over tables, and other ways of asking them."""
