"""The programme as it is declared, as data."""
