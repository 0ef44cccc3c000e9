"""The vocabulary that every part shares: errors, ids, time, outcomes, events. Pure: no I/O, no clock."""
