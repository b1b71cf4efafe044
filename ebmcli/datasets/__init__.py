"""Recipes, the renderer, the HDF5 format and importers of other formats."""
