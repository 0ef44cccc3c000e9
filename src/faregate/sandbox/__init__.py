"""The outside world on real HTTP: providers, the people they know, and faults on demand.

Nothing here belongs to the product's own decisions. The sandbox stands where real providers would: it shares
no code with the adapters that call it, so that both can be wrong independently and a test can see it.
"""
