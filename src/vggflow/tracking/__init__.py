"""What happened and which model is in use: the only package that imports MLflow."""
