"""Who may do what on MLflow: `python -m vggflow.tracking.users`."""
