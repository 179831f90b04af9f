"""Deliveries into the data folder: sources, archives, shapes of folders, splits."""
