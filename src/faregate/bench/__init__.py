"""Benchmarks that a user can repeat: load generators, peers measured in the same run, and one form of
result.

What is measured is started and asked from outside, over its own interfaces. No part of the product
imports this.
"""
