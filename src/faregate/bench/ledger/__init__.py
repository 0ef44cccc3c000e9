"""Measures a ledger, any ledger, that can do six things: a workload, a driver, a checker, and two rivals of ours.

Start at `port`, which says what the six are. docs/howto/measure-your-ledger.md shows them on a small ledger.
"""
