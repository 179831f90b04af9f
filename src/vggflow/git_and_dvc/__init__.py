"""How git and DVC are asked, and what they leave in a workspace."""
