"""Measures the features of live payments beside Feast, on the same Valkey: reads, the length of windows, bytes, freshness."""
