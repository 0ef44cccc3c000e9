"""What fraud decides, without I/O and clock."""
