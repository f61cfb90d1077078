"""img2dataset's own package as a downloader."""
