"""Pure decisions about points: no I/O, no clock."""
