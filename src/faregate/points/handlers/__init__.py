"""Loads, decides, saves and announces: the writer of the ledger, what is due, and what is checked."""
