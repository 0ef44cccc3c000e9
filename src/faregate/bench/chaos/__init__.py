"""Fault runs: everything fails in turn and at once while clients go on; afterwards the invariants are checked.

`plan` says what and how long, `injector` breaks it, `clients` go on, `run` judges.
"""
