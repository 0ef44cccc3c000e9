"""Features of events over sliding windows, declared once and computed by two engines that agree bit for bit.

    declarations ──> plan ──> online (Valkey, one round trip)     values while a payment waits
                        └───> offline (DuckDB, event tables)      the same values for training and for checks

`declarations` says what can be declared, `benchmark` and `payments` what is; `facts` says what an event is to a feature
and which of two came first. What a score does with a feature does not belong here.
"""
