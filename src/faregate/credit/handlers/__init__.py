"""What the credit context does: each handler loads, decides, saves and announces; the decision itself is pure."""
