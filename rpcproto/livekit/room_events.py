"""What happens in a room, for callbacks of the program and for those who wait for it."""

import asyncio
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Final, Literal, TypeAlias, get_args

from rpcproto.core.errors import ErrorCode, LocalProtocolError
from rpcproto.errors import RpcError
from rpcproto.livekit.participants import KINDS, AttributesChanged, RemoteParticipant
from rpcproto.livekit.transport import ConnectionState, News
from rpcproto.logs import logger
from rpcproto.transports import Connected, Disconnected, ParticipantJoined, ParticipantLeft

EventName: TypeAlias = Literal[
    "participant_connected",
    "participant_disconnected",
    "participant_attributes_changed",
    "reconnecting",
    "reconnected",
    "disconnected",
]
EVENT_NAMES: Final[tuple[EventName, ...]] = get_args(EventName)

Callback: TypeAlias = Callable[..., object]


class RoomEvents:
    """Callbacks by the name of their event, and the participants that the host knows of.

    The transport reports what the host has taken in, so a callback can call whoever it names.
    """

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._callbacks: dict[str, list[Callback]] = {name: [] for name in EVENT_NAMES}
        self._here: dict[str, RemoteParticipant] = {}
        self._state = ConnectionState.CONNECTED
        self._is_rejoining = False
        self._expected: dict[asyncio.Future[RemoteParticipant], str] = {}
        """Those who wait for a participant of a kind."""
        self._end: ConnectionError | None = None

    # for the program

    def on(self, name: str, callback: Callback) -> None:
        """Call `callback` whenever this happens. Raises LocalProtocolError."""
        if not callable(callback) or iscoroutinefunction(callback):
            raise LocalProtocolError(
                "a callback must be a plain function; to await something, let it create a task"
            )
        self._callbacks_of(name).append(callback)

    def off(self, name: str, callback: Callback) -> None:
        """Do not call it any more; one that was not there is ignored. Raises LocalProtocolError."""
        callbacks = self._callbacks_of(name)
        if callback in callbacks:
            callbacks.remove(callback)

    def participant(self, identity: str) -> RemoteParticipant | None:
        """The participant of this identity, if it is here."""
        return self._here.get(identity)

    async def wait_for_kind(self, kind: str) -> RemoteParticipant:
        """Return the first participant of a kind that is here, or comes.

        Raises RpcError (1503) when nobody can come any more, LocalProtocolError for what is no
        kind.
        """
        if kind not in KINDS:
            raise LocalProtocolError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        for participant in self._here.values():
            if participant.kind == kind:
                return participant
        if self._state is ConnectionState.DISCONNECTED:
            raise self._ended()
        expected: asyncio.Future[RemoteParticipant] = asyncio.get_running_loop().create_future()
        self._expected[expected] = kind
        try:
            return await expected
        finally:
            del self._expected[expected]

    # for the transport

    def take(self, news: News) -> None:
        """The host has taken this in."""
        match news:
            case RemoteParticipant():
                self._arrived(news)
            case AttributesChanged():
                self._arrived(news.participant)
                self._emit("participant_attributes_changed", news.changed, news.participant)
            case ParticipantLeft():
                self._departed(news.identity)
            case Disconnected():
                for identity in list(self._here):
                    self._departed(identity)
            case Connected():
                if self._is_rejoining:
                    self._is_rejoining = False
                    self._emit("reconnected")
            case ParticipantJoined():
                pass  # and has left already

    def change_state(self, state: ConnectionState, reason: ConnectionError | None) -> None:
        """The transport does something else about its connection now."""
        before, self._state = self._state, state
        match state:
            case ConnectionState.RESUMING:
                self._emit_soon("reconnecting")
            case ConnectionState.REJOINING:
                self._is_rejoining = True
                if before is not ConnectionState.RESUMING:
                    self._emit_soon("reconnecting")
            case ConnectionState.CONNECTED:
                if before is ConnectionState.RESUMING:
                    self._emit_soon("reconnected")
            case ConnectionState.DISCONNECTED:
                self._end = reason
                if reason is None:
                    self._here.clear()  # we have left ourselves
                for expected in self._expected:
                    if not expected.done():
                        expected.set_exception(self._ended())
                self._emit_soon("disconnected", reason)

    # within

    def _arrived(self, participant: RemoteParticipant) -> None:
        before = self._here.get(participant.identity)
        self._here[participant.identity] = participant
        for expected, kind in self._expected.items():
            if kind == participant.kind and not expected.done():
                expected.set_result(participant)
        if before is None:
            self._emit("participant_connected", participant)

    def _departed(self, identity: str) -> None:
        participant = self._here.pop(identity, None)
        if participant is not None:
            self._emit("participant_disconnected", participant)

    def _ended(self) -> RpcError:
        error = RpcError(ErrorCode.RECIPIENT_DISCONNECTED)
        error.__cause__ = self._end
        return error

    def require_event(self, name: str) -> None:
        """Raise LocalProtocolError unless there is an event of this name."""
        if name not in self._callbacks:
            names = ", ".join(EVENT_NAMES)
            raise LocalProtocolError(f"there is no event {name!r}; there are: {names}")

    def _callbacks_of(self, name: str) -> list[Callback]:
        self.require_event(name)
        return self._callbacks[name]

    def _emit_soon(self, name: EventName, *arguments: object) -> None:
        asyncio.get_running_loop().call_soon(self._emit, name, *arguments)

    def _emit(self, name: EventName, *arguments: object) -> None:
        for callback in list(self._callbacks[name]):
            try:
                callback(*arguments)
            except Exception:
                logger.exception("%s: a callback for %s failed", self._identity, name)
