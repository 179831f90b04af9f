"""Stages, locks, servers and parents as processes."""
