"""Where rows come from: lists and folders, wherever they lie, read as one stream of tables."""
