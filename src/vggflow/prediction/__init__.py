"""How a model is used: single images, folders, submissions."""
