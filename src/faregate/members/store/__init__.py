"""The members schema: the only modules of this context that see rows and SQL."""
