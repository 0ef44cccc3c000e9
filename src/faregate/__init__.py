"""faregate: the open-source backbone of a card issuer."""

__version__ = "0.1.0"
