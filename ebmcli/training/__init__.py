"""Training runs as iterators of reports."""
