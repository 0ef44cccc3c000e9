"""What callers of payments pass and get. Frozen data and protocols, no behaviour."""
