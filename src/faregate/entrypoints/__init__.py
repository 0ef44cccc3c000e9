"""How faregate is started: the wiring, the command line, the API process, the worker process, the supervisor."""
