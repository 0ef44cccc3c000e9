"""Redemptions beside what one would write first: partners of which one hangs, and a plain script of the steps."""
