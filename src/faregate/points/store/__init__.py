"""The ledger's rows: what a batch reads and writes in `batch`, what is asked of it in `reading`."""
