"""What callers of fraud pass and get. Frozen data and protocols, no behaviour."""
