"""Judges and metrics: numbers about images and labels."""
