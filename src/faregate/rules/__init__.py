"""Versioned rulesets for every context: publish, activate, evaluate. What a rule says is the context's."""

import os

# Where RUST_BACKTRACE is set the engine would gather a stack for every cell that it cannot evaluate on its input, such
# as a missing number: a third of a millisecond each, which nobody reads.
os.environ.setdefault("RUST_LIB_BACKTRACE", "0")
