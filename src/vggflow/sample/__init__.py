"""The embedded sample: handwritten digits that need no download."""
