"""Should a candidate become champion: rules, statistics, evidence."""
