"""Pure rules of webhooks: which addresses may be called, and what an answer leads to."""
