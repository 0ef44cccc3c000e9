"""The HTTP edge: app factory, problems, limits, API keys, idempotency keys, health. No route of a context."""
