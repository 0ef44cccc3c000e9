"""Pure decisions about members: what a profile may hold, how a status changes, who is in a household. No I/O."""
