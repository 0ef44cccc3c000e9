"""The journal's tables as functions. The only place of the gateway that sees the database driver."""
