"""data/ and weights/ as git and DVC have them: brought together, verified, published."""
