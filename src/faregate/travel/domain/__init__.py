"""What travel decides, without I/O and clock: the saga of a redemption, references, prices in points."""
