"""The only wiring: which real part stands behind each dependency. Everything else takes its parts as arguments.

`site` is what every process needs, `credit` the context, `api` and `worker` the two kinds of process; a process
imports only its own, since importing all of it takes seconds. Each function opens what it needs on the given exit
stack, so that leaving the stack closes it in reverse order.
"""
