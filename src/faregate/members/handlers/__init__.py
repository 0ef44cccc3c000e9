"""What the members context does: each handler loads, decides, saves and announces; the decision itself is pure."""
