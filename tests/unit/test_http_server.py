"""The listening socket of our servers."""

from __future__ import annotations

import socket

from faregate.infra.http.server import listen


def test_every_connection_sends_the_parts_of_an_answer_without_waiting_for_acknowledgements() -> None:
    with listen() as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
