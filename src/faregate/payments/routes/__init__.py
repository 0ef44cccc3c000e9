"""The HTTP face of payments. Each endpoint reads, asks the `api`, answers; nothing is decided here."""
