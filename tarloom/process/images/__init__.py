"""From a list of URLs to captioned pictures in one run: creation and processing side by side."""
