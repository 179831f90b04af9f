"""What cached features say about labels: which may be wrong, which images are unlike all others."""
