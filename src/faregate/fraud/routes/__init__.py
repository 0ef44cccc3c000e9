"""The HTTP face of fraud. Each endpoint reads, asks the `api`, answers; nothing is decided here."""
