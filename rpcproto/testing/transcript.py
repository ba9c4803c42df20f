"""What happened in a world, as lines to read."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from rpcproto.core.events import (
    CallAcknowledged,
    CallFailed,
    CallSucceeded,
    Event,
    InvocationAbandoned,
    InvocationReceived,
)
from rpcproto.recording.rows import unsealed
from rpcproto.testing.participants import WorldParticipant
from rpcproto.transports.links import Fate, SentPacket
from rpcproto.wire import (
    METHOD,
    REQUEST_ID,
    REQUEST_TOPIC,
    Ack,
    ErrorResponse,
    Message,
    Request,
    Response,
    Sealed,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
    decode,
)

MAX_TEXT: Final = 24
"""Characters of a text that are shown."""

Happening: TypeAlias = tuple[float, str, SentPacket | Event | str]
"""When it was (seconds), to whom, and what."""


def lines(
    happenings: Iterable[Happening],
    calls: Mapping[str, int],
    senders: Mapping[str, WorldParticipant],
) -> Iterable[str]:
    """A line for each; `calls` has the numbers of calls by their request ids, and `senders` have
    the cryptors that packets were sealed with."""
    names = _Names(calls, senders)
    for at, identity, what in happenings:
        if isinstance(what, SentPacket):
            text = f"{identity} → {what.destination_identity}  {names.packet(what)}"
        elif isinstance(what, str):
            text = f"{identity} {what}"
        else:
            text = f"{identity}: {names.event(identity, what)}"
        yield f"{at:8.3f} s  {text}"


class _Names:
    """Requests by number and streams by their request, as far as they have been told of."""

    def __init__(self, calls: Mapping[str, int], senders: Mapping[str, WorldParticipant]) -> None:
        self._calls = calls
        self._senders = senders
        self._streams: dict[str, str] = {}
        self._invocations: dict[tuple[str, int], str] = {}
        """Each engine counts its own invocations."""

    def packet(self, sent: SentPacket) -> str:
        decoded, what, sender = decode(sent.data), "no packet at all", sent.sender_identity
        if decoded is not None:
            what = self._message(unsealed(decoded.message, sender, self._senders[sender].cryptor))
        return f"{what}  [{_fate(sent)}]"

    def event(self, identity: str, event: Event) -> str:
        match event:
            case CallAcknowledged(request_id):
                return f"call {self._call(request_id)} is acknowledged"
            case CallSucceeded(request_id, payload):
                return f"call {self._call(request_id)} succeeds, {_quoted(payload)}"
            case CallFailed(request_id, code, message, data):
                return f"call {self._call(request_id)} fails, {_error(code, message, data)}"
            case InvocationReceived(invocation_id, request_id, caller, method, payload):
                call = self._invocations[identity, invocation_id] = self._call(request_id)
                return f"invocation {call} of {method} for {caller}, {_quoted(payload)}"
            case InvocationAbandoned(invocation_id, reason):
                call = self._invocations.get((identity, invocation_id), "?")
                return f"invocation {call} is abandoned, {reason.value}"
        sender = f" of {event.sender_identity}" if event.sender_identity else ""
        return f"ignores a packet{sender}, {event.reason.value}"

    def _call(self, request_id: str) -> str:
        return str(self._calls.get(request_id, request_id))

    def _message(self, message: Message) -> str:
        match message:
            case Request(request_id, method, payload):
                return f"request {self._call(request_id)} {method} {_quoted(payload)}"
            case Ack(request_id):
                return f"ack {self._call(request_id)}"
            case Response(request_id, payload):
                return f"response {self._call(request_id)} {_quoted(payload or '')}"
            case ErrorResponse(request_id, code, text, data):
                return f"error {self._call(request_id)} {_error(code, text, data)}"
            case StreamHeader():
                return self._header(message)
            case StreamChunk(stream_id, index, content):
                stream = self._streams.get(stream_id, stream_id)
                return f"{stream} chunk {index}, {len(content)} bytes"
            case StreamTrailer(stream_id, reason):
                end = f"the end: {reason}" if reason else "the end"
                return f"{self._streams.get(stream_id, stream_id)} {end}"
            case Sealed():
                return "a packet that is sealed"
        return "a packet of another kind"

    def _header(self, header: StreamHeader) -> str:
        kind = "request" if header.topic == REQUEST_TOPIC else "response"
        call = self._call(header.attributes.get(REQUEST_ID, ""))
        stream = self._streams[header.stream_id] = f"{kind} {call}"
        method = f" {header.attributes[METHOD]}" if header.attributes.get(METHOD) else ""
        compressed = ", compressed" if header.compression else ""
        content = header.inline_content
        if content is not None and not compressed:
            return f"{stream}{method} inline {_quoted(content.decode(errors='replace'))}"
        form = "in chunks" if content is None else "inline"
        return f"{stream}{method} {form}{compressed}, {header.total_length} bytes"


def _quoted(text: str) -> str:
    return repr(text) if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]!r}… ({len(text)})"


def _error(code: int, message: str, data: str) -> str:
    return f"{code} {message}" + (f" ({data})" if data else "")


def _fate(sent: SentPacket) -> str:
    if sent.arrived_at:
        return "arrives at " + " and ".join(f"{at:.3f} s" for at in sent.arrived_at)
    return "under way" if sent.fate is Fate.CARRIED else sent.fate.value
