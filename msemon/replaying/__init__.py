"""The past through the daemon's own pipeline: files and ranges of topics in, windows over time out."""
