"""Versioned rulesets for every context: publish, activate, evaluate. What a rule says is the context's."""
