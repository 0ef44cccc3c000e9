"""What payments ask outside of themselves: the scorer, over HTTP."""
