"""Points: the ledger of the loyalty programme, its rules, and what it owes its members."""
