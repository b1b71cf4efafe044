"""One function per user-visible job: load, compute, save."""
