"""What payments decides, without I/O and clock: the failure policy, the life of a payment, hard knock-outs."""
