"""The rows of redemptions and their steps."""
