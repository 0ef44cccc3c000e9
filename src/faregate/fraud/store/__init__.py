"""The rows of fraud: decisions, lists, models."""
