"""Card payments of the sandbox's people: the benchmark's simulator, whose every row is known."""
