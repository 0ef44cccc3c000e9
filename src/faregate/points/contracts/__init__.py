"""What callers of points pass and get: frozen, without rows and requests."""
