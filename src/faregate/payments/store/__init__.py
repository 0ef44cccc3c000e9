"""The rows of cards, payments and failure policies."""
