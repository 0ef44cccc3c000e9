"""Logs, traces and metrics: how the system tells what it does. No business meaning, and no personal data."""
