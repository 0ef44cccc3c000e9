"""Measures the features of live payments: reads beside Feast on one Valkey, the length of windows, bytes, freshness."""
