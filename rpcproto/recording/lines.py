"""The lines of one engine in a journal, composed by hand: they are most of what a journal costs.

What a remote sends can make an engine do a lot: a small packet can inflate to a large payload,
which a handler may echo, and long names are in every event and packet. So long names are written
once, and of long texts and packets that a replay makes again, only the length and the SHA-256 are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any, Final

from rpcproto.core.config import RpcConfig
from rpcproto.core.events import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    Event,
    InvocationAbandoned,
    InvocationReceived,
    PacketIgnored,
)
from rpcproto.core.messages import OutgoingPacket, PacketKind
from rpcproto.core.wire import envelope
from rpcproto.recording.notes import Notes
from rpcproto.recording.texts import LongTexts
from rpcproto.recording.values import (
    MAX_NAMES,
    MAX_SHORT_NAME,
    MAX_SHORT_TEXT,
    base64,
    escaped,
    foreign,
    general,
    is_collection,
    is_unicode,
    long_text,
    number,
    write_json,
)
from rpcproto.wire import MAX_IDENTITY_BYTES

PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "call": (
        "destination_identity", "method", "payload", "now", "response_timeout", "ack_timeout",
    ),
    "cancel": ("request_id", "now"),
    "respond": ("invocation_id", "payload", "now"),
    "respond_error": ("invocation_id", "code", "message", "data", "now"),
    "register_method": ("method",),
    "unregister_method": ("method",),
    "receive_packet": ("data", "now", "sender_identity", "sender_sid"),
    "participant_joined": (
        "identity", "now", "participant_sid", "client_protocol", "capabilities",
    ),
    "participant_left": ("identity", "now", "participant_sid"),
    "connected": ("now", "server_version", "participants_complete"),
    "disconnected": ("now",),
    "send_failed": ("packet", "now"),
    "handle_deadline": ("now",),
    "close": ("now",),
    "hand_over_unknown_methods": ("value",),
}  # fmt: skip
"""The inputs of an engine, and their arguments in the order in which a journal has them."""
SETTINGS: Final = frozenset({"hand_over_unknown_methods"})
"""The inputs that are not methods: the host sets an attribute to the `value`."""

_NAMES: Final = {
    "destination_identity",
    "identity",
    "method",
    "participant_sid",
    "request_id",
    "sender_identity",
    "sender_sid",
}
_TEXTS: Final = {"data", "message", "payload"}
MAX_STREAMS: Final = 1_024
"""When the chunks of so many streams have left, all are forgotten before those of the next."""
_MAX_DATA_BYTES: Final = 512
"""Of a packet with more than this after its envelope, the length and the SHA-256 are written."""
_SURELY_LONG: Final = MAX_SHORT_TEXT - 2
"""A text of more characters needs no escaping to be known as long."""
_CHUNK: Final = PacketKind.STREAM_CHUNK
_TRAILER: Final = PacketKind.STREAM_TRAILER


class Lines:
    """Composes the lines of one engine. How a line is written depends on the lines before it."""

    def __init__(
        self,
        engine: int,
        identity: str,
        config: RpcConfig,
        notes: Notes | None = None,
        *,
        keeps_texts: bool,
    ) -> None:
        self.texts: LongTexts = LongTexts(config.max_buffered_bytes, keeps=keeps_texts)
        self.ids: list[object] = []
        """What the engine has drawn from `new_id` since the last line."""
        self._engine = engine
        self._identity = identity
        self._notes = notes
        self._config = asdict(config)
        self._max_packet_bytes = config.max_packet_bytes
        self._names: dict[str, int] = {}
        self._names_defined = 0
        self._streams: dict[int, tuple[str, str]] = {}
        """Destinations and request ids of the latest streams that left, by token."""
        self._call = f'[{engine},"call",['
        self._respond = f'[{engine},"respond",['
        self._receive_packet = f'[{engine},"receive_packet",["'
        self._handle_deadline = f'[{engine},"handle_deadline",['
        self._packet = f'[{engine},"packet",'
        self._events = f'[{engine},"events",'
        self._event: dict[type[Event], Callable[[Any], str]] = {
            CallAcknowledged: self._call_acknowledged,
            CallSucceeded: self._call_succeeded,
            CallFailed: self._call_failed,
            InvocationReceived: self._invocation_received,
            InvocationAbandoned: self._invocation_abandoned,
            PacketIgnored: self._packet_ignored,
        }

    def made(self, unix_time_offset: float) -> str:
        """The engine was made."""
        fields: list[object] = [self._engine, "engine", self._identity]
        fields += [unix_time_offset, self._config]
        if self._notes is not None:
            fields.append({"encrypted": True})
        return write_json(fields) + "\n"

    # the usual inputs, once the engine has accepted them

    def call(
        self,
        arguments: tuple[str, str, str, float, float | None, float | None],
        next_deadline: float | None,
        returned: str,
    ) -> str:
        """`call` returned a request id."""
        destination_identity, method, payload, now, response_timeout, ack_timeout = arguments
        timeouts = "null,null"
        if response_timeout is not None or ack_timeout is not None:
            timeouts = f"{number(response_timeout)},{number(ack_timeout)}"
        return (
            f"{self._call}{self._name(destination_identity)},{self._name(method)},"
            f"{self._text(payload)},{number(now)},{timeouts}],{number(next_deadline)}"
            f',{{"returned":{escaped(returned)}{self._ids_drawn()}}}]\n'
        )

    def respond(
        self,
        invocation_id: int,
        payload: str,
        now: float,
        next_deadline: float | None,
        returned: bool,
    ) -> str:
        """`respond` returned."""
        line = (
            f"{self._respond}{number(invocation_id)},{self._text(payload)},{number(now)}],"
            f'{number(next_deadline)},{{"returned":{"true" if returned else "false"}'
            f"{self._ids_drawn()}}}]\n"
        )
        self.texts.invocation_ended(invocation_id)
        return line

    def receive_packet(
        self,
        data: bytes | bytearray | memoryview,
        now: float,
        sender_identity: str | None,
        sender_sid: str | None,
        next_deadline: float | None,
    ) -> str:
        """`receive_packet` returned."""
        if type(data) is not bytes or len(data) > self._max_packet_bytes or self.ids:
            arguments = (data, now, sender_identity, sender_sid)
            return self.input("receive_packet", arguments, next_deadline, {})
        ending = "" if self._notes is None else self._opened()
        sender = "null,null"
        if sender_identity is not None or sender_sid is not None:
            sender = f"{self._optional_name(sender_identity)},{self._optional_name(sender_sid)}"
        return (
            f'{self._receive_packet}{base64(data)}",{number(now)},{sender}],'
            f"{number(next_deadline)}{ending}]\n"
        )

    def handle_deadline(self, now: float, next_deadline: float | None) -> str:
        """`handle_deadline` returned."""
        if self.ids:
            return self.input("handle_deadline", (now,), next_deadline, {})
        return f"{self._handle_deadline}{number(now)}],{number(next_deadline)}]\n"

    # any input

    def input(
        self,
        name: str,
        arguments: Sequence[object],
        next_deadline: float | None,
        outcome: Mapping[str, object],
    ) -> str:
        """An input was done; `outcome` has what it returned or raised, if anything."""
        is_new = "raised" not in outcome
        written = ",".join(
            self._argument(name, key, value, is_new)
            for key, value in zip(PARAMETERS[name], arguments, strict=True)
        )
        more = [f'"{key}":{general(value)}' for key, value in outcome.items()]
        if self._notes is not None:
            more.append(self._opened().removeprefix(",{").removesuffix("}"))
        more.append(self._ids_drawn().removeprefix(","))
        extra = ",".join(filter(None, more))
        line = f'[{self._engine},"{name}",[{written}],{number(next_deadline)}'
        if is_new and name == "respond_error":
            self.texts.invocation_ended(arguments[0])
        return f"{line},{{{extra}}}]\n" if extra else f"{line}]\n"

    def _argument(self, name: str, key: str, value: object, is_new: bool) -> str:
        if name == "receive_packet" and key == "data":
            return self._received(value)
        if key == "packet":
            return self._failed_packet(value, is_new)
        if key == "capabilities" and is_collection(value):
            return f"[{','.join(map(general, value))}]"
        if isinstance(value, str) and is_unicode(value):
            if key in _NAMES:
                return self._name(value, is_new=is_new)
            if key in _TEXTS:
                return self._text(value)
        return general(value)

    def _received(self, data: object) -> str:
        if not isinstance(data, bytes | bytearray | memoryview):
            return foreign(data)
        if memoryview(data).nbytes > self._max_packet_bytes:
            # The engine looks at nothing but the size.
            return '{"too_large":true}'
        return f'"{base64(bytes(data))}"'

    def _failed_packet(self, packet: object, is_new: bool) -> str:
        """A packet that could not be sent, without its data, at which the engine does not look."""
        if not isinstance(packet, OutgoingPacket) or not _is_well_made(packet):
            return foreign(packet)
        _, destination, request_id, kind, token = packet
        names = f"{self._name(destination, is_new=is_new)},{self._name(request_id, is_new=is_new)}"
        return f'["{kind.value}",{number(token)},{names}]'

    def _ids_drawn(self) -> str:
        """The ids that the input needed, as what follows in an object."""
        if not self.ids:
            return ""
        ids, self.ids = self.ids, []
        return f',"ids":[{",".join(map(general, ids))}]'

    def _opened(self) -> str:
        """Whether a sealed packet opened, as what follows in a line."""
        assert self._notes is not None
        opened = self._notes.take_opened()
        return "" if opened is None else f',{{"opened":{general(opened)}}}'

    # what is taken

    def packet(self, packet: OutgoingPacket) -> str:
        """`next_packet` gave this. What follows the names of sender and destination is written."""
        data, destination, request_id, kind, token = packet
        start = envelope(self._identity, destination)
        if len(data) <= len(start) + _MAX_DATA_BYTES and data.startswith(start):
            content = f'"{base64(data[len(start) :])}"'
        else:
            content = f'[{len(data)},"{sha256(data).hexdigest()}"]'
        ending = "" if self._notes is None else self._sealed()
        if kind is _CHUNK or kind is _TRAILER:
            to = (destination, request_id)
            if self._streams.get(token) == to:
                return f'{self._packet}"{kind._value_}",{token},{content}{ending}]\n'
            if len(self._streams) >= MAX_STREAMS:
                self._streams.clear()
            self._streams[token] = to
        return (
            f'{self._packet}"{kind._value_}",{token},{content},'
            f"{self._name(destination)},{self._name(request_id)}{ending}]\n"
        )

    def _sealed(self) -> str:
        """The key index and the IV of a sealed packet, as what follows in a line."""
        assert self._notes is not None
        sealed = self._notes.take_sealed()
        return "" if sealed is None else f',{{"key_index":{sealed[0]},"iv":"{base64(sealed[1])}"}}'

    def events(self, events: tuple[Event, ...]) -> str:
        """`take_events` gave these."""
        write = self._event
        if len(events) == 1:
            return f"{self._events}{write[type(events[0])](events[0])}]\n"
        return f"{self._events}{','.join([write[type(event)](event) for event in events])}]\n"

    def _call_acknowledged(self, event: CallAcknowledged) -> str:
        return f'["CallAcknowledged",{self._name(event.request_id)}]'

    def _call_succeeded(self, event: CallSucceeded) -> str:
        return f'["CallSucceeded",{self._name(event.request_id)},{self._event_text(event.payload)}]'

    def _call_failed(self, event: CallFailed) -> str:
        return (
            f'["CallFailed",{self._name(event.request_id)},{number(event.code)},'
            f"{self._event_text(event.message)},{self._event_text(event.data)}]"
        )

    def _invocation_received(self, event: InvocationReceived) -> str:
        invocation_id, request_id, caller, method, payload, response_timeout = event
        return (
            f'["InvocationReceived",{invocation_id},{self._name(request_id)},{self._name(caller)},'
            f"{self._name(method)},{self._event_text(payload, invocation_id)},{response_timeout!r}]"
        )

    def _invocation_abandoned(self, event: InvocationAbandoned) -> str:
        self.texts.invocation_ended(event.invocation_id)
        return f'["InvocationAbandoned",{event.invocation_id},"{event.reason.value}"]'

    def _packet_ignored(self, event: PacketIgnored) -> str:
        return f'["PacketIgnored","{event.reason.value}",{self._name(event.sender_identity)}]'

    # names and texts

    def _name(self, name: str, *, is_new: bool = True) -> str:
        """An identity, a sid, an id or a method; a long one is defined once and then referred to.

        With `is_new` False it may be referred to, but not defined: a replay may skip the line.
        """
        if len(name) < MAX_SHORT_NAME:
            written = escaped(name)
            if len(written) <= MAX_SHORT_NAME:
                return written
        known = self._names.get(name)
        if known is not None:
            return f'{{"name":{known}}}'
        if not is_new or len(name) > MAX_IDENTITY_BYTES:
            return escaped(name)
        if len(self._names) >= MAX_NAMES:
            self._names.clear()
        self._names_defined += 1
        self._names[name] = self._names_defined
        return f'{{"name":{self._names_defined},"is":{escaped(name)}}}'

    def _optional_name(self, name: object) -> str:
        return self._name(name) if type(name) is str else general(name)

    def _text(self, text: str) -> str:
        """A text from the host: in full, unless an event had it and it is long."""
        if len(text) <= _SURELY_LONG:
            written = escaped(text)
            if len(written) <= MAX_SHORT_TEXT:
                return written
        long = long_text(text)
        return long.json() if long in self.texts else escaped(text)

    def _event_text(self, text: str, invocation_id: int = 0) -> str:
        """A text in an event: a long one is hashed, for a replay makes it again."""
        if len(text) <= _SURELY_LONG:
            written = escaped(text)
            if len(written) <= MAX_SHORT_TEXT:
                return written
        long = long_text(text)
        self.texts.add(long, text, invocation_id)
        return long.json()


def _is_well_made(packet: OutgoingPacket) -> bool:
    """Whether the fields of a packet from the host are of their types."""
    _, destination, request_id, kind, _ = packet
    return isinstance(kind, PacketKind) and all(
        isinstance(name, str) and is_unicode(name) for name in (destination, request_id)
    )
