"""The registry of models: versions, champions, decisions, and what each version came from."""
