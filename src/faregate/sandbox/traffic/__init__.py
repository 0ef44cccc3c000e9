"""Traffic of the sandbox's people.

`benchmark` is the simulator whose every row is known, and whose figures are comparable; `sessions` tells stories of
members online and of accounts that are taken over, and `replay` tells them to a running system.
"""
