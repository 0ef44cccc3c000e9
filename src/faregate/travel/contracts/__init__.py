"""What callers of travel and its partners' adapters pass and get. Frozen data and protocols, no behaviour."""
