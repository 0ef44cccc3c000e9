"""Keys and their uses: field encryption, blind index, signatures, canonical JSON. No HTTP, no SQL."""
