"""The one door to the outside world. It knows providers and outcomes, and nothing of any context's domain."""
