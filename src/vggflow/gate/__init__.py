"""What may be trained on: every file looked at, copies found, rules judged, a page written."""
