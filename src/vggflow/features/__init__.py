"""What frozen layers gave: keys, store, limit, computing."""
