"""What can go wrong with a server that we run ourselves."""

from faregate.kernel.errors import UnavailableError


class EmbeddedServerError(UnavailableError):
    """An embedded server cannot be started or stopped; the detail says why and what to do."""
