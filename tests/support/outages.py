"""Losses of the signalling and of the network, in the room server itself."""

from typing import Self

import pytest

from rpcproto.conformance.room_server import Session


def abort(session: Session) -> None:
    """Cut the signalling of a client."""
    transport = session.socket._req.transport if session.socket._req else None
    assert transport is not None
    transport.abort()


class Outage:
    """While inside `with`, no datagram passes between the server and a client."""

    def __init__(self, session: Session) -> None:
        self.lost = 0
        """How many datagrams have been lost."""
        self._session = session
        self._patch = pytest.MonkeyPatch()

    def _lose(self, *_: object) -> None:
        self.lost += 1

    def __enter__(self) -> Self:
        for connection in self._session._connections:
            assert connection.sctp is not None
            for protocol in connection.sctp.transport.transport._connection._protocols:
                self._patch.setattr(protocol, "datagram_received", self._lose)
                self._patch.setattr(protocol.transport, "sendto", self._lose)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
