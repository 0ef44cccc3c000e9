"""Pure decisions of the credit context: the state machine, facts, score, reasons, the decision itself. No I/O."""
