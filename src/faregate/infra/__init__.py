"""Everything that touches the outside: servers, database, event log, workflow engine, HTTP, telemetry."""
