"""The policies that stand before a call: pure, in this process, with the time as an argument.

`declared` holds what an operator writes, one file each holds a policy's state, and `guard` asks them in order. All
times are seconds on one clock that only grows; nothing here reads it. Every question and every answer costs the same,
however many calls there were.
"""
