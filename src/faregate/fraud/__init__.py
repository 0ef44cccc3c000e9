"""Fraud: scores every payment in milliseconds by features, rules and a model, and keeps why."""
