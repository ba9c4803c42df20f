"""A participant that the suite plays: what it sends to the testee, and what it gets."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from rpcproto import wire
from rpcproto.conformance.attachment import MAX_PACKET_BYTES, Member
from rpcproto.conformance.case import Unmet
from rpcproto.conformance.reading import (
    Body,
    Form,
    IncomingRequest,
    Seen,
    describe,
    quoted,
    read_answer,
    read_request,
)
from rpcproto.conformance.writing import TIMEOUT_MS, answer_parts, new_id, request_parts
from rpcproto.core.packets_pb2 import DataPacket
from rpcproto.recording.rows import unsealed
from rpcproto.wire import (
    Ack,
    ErrorResponse,
    Message,
    OutgoingMessage,
    Packet,
    Request,
    Response,
    Sealed,
    StreamChunk,
    StreamHeader,
    StreamTrailer,
)

if TYPE_CHECKING:
    from rpcproto.conformance.stage import Stage
    from rpcproto.core.sealing import Cryptor

T = TypeVar("T")
INLINE_BYTES = 14_000
"""A payload of at most so many bytes goes inline, where that is understood."""


class Participant:
    """One of those whom the testee meets.

    The methods that send return at once. Those whose name begins with `gets` wait for what must
    come, take it out of the inbox, and raise Unmet if something else about the same request is
    there first, or if it does not come.
    """

    def __init__(
        self, stage: "Stage", member: Member, record: Callable[[str, str, bytes], None]
    ) -> None:
        """Made by `Scene.join`. `record` is given all that passes: sender, receiver, packet."""
        self.member = member
        self.cryptor: Cryptor | None = None
        """What its packets are sealed with, if they are."""
        self.inbox: list[Seen] = []
        """What has come and was not taken, the oldest first."""
        self._stage = stage
        self._record = record
        self._streams: dict[str, str] = {}
        """The request ids of the streams that come, by stream id."""

    @property
    def identity(self) -> str:
        return self.member.identity

    @property
    def reads(self) -> int:
        """The client_protocol that it announced."""
        return self.member.client_protocol

    # what it sends

    def send(
        self,
        *messages: OutgoingMessage,
        sid: str | None = None,
        sequence: int = 0,
        destination: str | None = None,
        change: Callable[[DataPacket], None] | None = None,
        is_plain: bool = False,
    ) -> None:
        """Send messages to the testee, stamped as a server stamps them.

        `sid` in place of its own, `destination` in place of the testee (empty for a packet to the
        whole room), and a `sequence` number if the case wants one. `change` alters each packet
        before it is stamped, for what `rpcproto.wire` does not write. `is_plain` is for
        what is not encrypted in an encrypted room.
        """
        for message in messages:
            to = self._stage.facts.identity if destination is None else destination
            data = wire.encode(message if is_plain else self._sealed(message), "", to)
            if not to:
                data = data.removeprefix(b"\x2a\x00")
            if change is not None:
                packet = DataPacket.FromString(data)
                change(packet)
                data = packet.SerializeToString()
            sender_sid = self.member.sid if sid is None else sid
            self.send_bytes(
                wire.stamp(
                    data, sequence=sequence, sender_identity=self.identity, sender_sid=sender_sid
                )
            )

    def _sealed(self, message: OutgoingMessage) -> OutgoingMessage:
        if self.cryptor is None or isinstance(message, Sealed):
            return message
        return self.cryptor.seal(wire.encode_payload(message))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are, which need not be a packet, within what the wire allows."""
        assert 0 < len(data) <= MAX_PACKET_BYTES, f"the suite sends {len(data):,} bytes"
        assert not data.startswith(b"{"), "the suite sends a packet that looks like control"
        self._record(self.identity, self._stage.facts.identity, data)
        self._stage.send(data)

    def form_for(self, payload: str) -> Form:
        """The usual form of a payload between the testee and this participant."""
        least = min(self.reads, self._stage.facts.client_protocol)
        if not least:
            return Form.PACKET
        fits = len(payload.encode()) <= INLINE_BYTES
        return Form.INLINE if least == 2 and fits else Form.CHUNKS

    def request(
        self,
        method: str,
        payload: str = "",
        *,
        form: Form | None = None,
        request_id: str = "",
        timeout_ms: int = TIMEOUT_MS,
    ) -> str:
        """Send a request in its usual form, or in another; returns its id."""
        request_id = request_id or new_id()
        form = form or self.form_for(payload)
        self.send(*request_parts(request_id, method, payload, form, timeout_ms=timeout_ms))
        return request_id

    def ack(self, request: IncomingRequest) -> None:
        """Acknowledge a request of the testee."""
        self.send(Ack(request.request_id))

    def answer(self, request: IncomingRequest, payload: str = "", form: Form | None = None) -> None:
        """Answer a request of the testee in the usual form, or in another."""
        form = form or self.form_for(payload)
        self.send(*answer_parts(request.request_id, payload, form))

    def refuse(
        self, request: IncomingRequest, code: int, message: str = "", data: str = ""
    ) -> None:
        """Answer a request of the testee with an error."""
        self.send(ErrorResponse(request.request_id, code, message, data))

    # what it gets

    async def gets_ack(self, request_id: str) -> Seen:
        """The next packet about a request is its ack."""
        seen = await self._first("an ack", request_id)
        if not isinstance(seen.message, Ack):
            raise Unmet("an ack before anything else", describe(seen.message))
        self.inbox.remove(seen)
        return seen

    async def gets_answer(self, request_id: str, payload: str | None = None) -> Body:
        """A request is answered, with this payload if it is given. Acks before it are skipped."""
        what = "an answer" if payload is None else f"the answer {quoted(payload)}"
        body = await self._whole(what, request_id, read_answer)
        self._check_readable(body.form)
        if payload is not None and body.payload != payload:
            raise Unmet(what, f"the answer {quoted(body.payload)}")
        return body

    async def gets_error(
        self, request_id: str, code: int | None = None, message: str | None = None
    ) -> ErrorResponse:
        """A request is answered with an error. Acks before it are skipped."""
        what = " ".join(filter(None, ("error", str(code or ""), message and repr(message))))
        self._skip_acks(request_id)
        seen = await self._first(what, request_id, skip_acks=True)
        error = seen.message
        if not isinstance(error, ErrorResponse):
            raise Unmet(what, await self._what_answer(request_id, seen))
        if code is not None and error.code != code:
            raise Unmet(what, describe(error))
        if message is not None and error.message != message:
            raise Unmet(what, describe(error))
        self.inbox.remove(seen)
        return error

    async def gets_outcome(self, request_id: str, within: float) -> None:
        """A request is answered, in whatever way, before so many seconds are over."""
        instant = self._stage.now + within + self._stage.tolerance
        if await self._stage.until_at(lambda: self.has_outcome(request_id), instant) is None:
            raise Unmet(
                f"an answer to {self.identity} within {within:.1f} s", self._what_came(request_id)
            )

    async def gets_request(
        self, method: str | None = None, payload: str | None = None
    ) -> IncomingRequest:
        """A request of the testee comes, whole; with this method and payload if they are given."""
        request = await self._whole("a request", None, read_request)
        self._check_readable(request.form)
        if method is not None and request.method != method:
            raise Unmet(f"a request for {method!r}", f"one for {request.method!r}")
        if payload is not None and request.payload != payload:
            seen = f"{quoted(request.payload)}"
            raise Unmet(f"a request with the payload {quoted(payload)}", seen)
        return request

    def acks_of(self, request_id: str) -> list[Seen]:
        """The acks of a request that have come and were not taken."""
        return [seen for seen in self._about(request_id) if isinstance(seen.message, Ack)]

    def has_outcome(self, request_id: str) -> bool | None:
        """True if anything but an ack has come about a request, else None."""
        return bool(self.outcomes_of(request_id)) or None

    def outcomes_of(self, request_id: str) -> list[Seen]:
        """All but acks that has come about a request and was not taken."""
        return [seen for seen in self._about(request_id) if not isinstance(seen.message, Ack)]

    def is_refused(self, request_id: str, code: int) -> bool:
        """Whether an error with this code has come about a request and was not taken."""
        messages = [seen.message for seen in self._about(request_id)]
        return any(isinstance(one, ErrorResponse) and one.code == code for one in messages)

    def forget(self, request_id: str) -> None:
        """Take all that has come about a request."""
        self.inbox = [seen for seen in self.inbox if seen.about != request_id]

    # within

    def receive(self, data: bytes, packet: Packet, now: float) -> None:
        """A packet of the testee has come; the stage calls this."""
        self._record(self._stage.facts.identity, self.identity, data)
        message = unsealed(packet.message, self._stage.facts.identity, self.cryptor)
        if isinstance(message, StreamHeader):
            self._streams.setdefault(message.stream_id, message.request_id)
        elif self._is_part_of_another_conversation(packet, message):
            return
        self.inbox.append(Seen(now, data, packet, message, self._request_of(message)))

    def _is_part_of_another_conversation(self, packet: Packet, message: Message) -> bool:
        """Some SDKs send the chunks of each stream to the whole room, and its header to the
        recipient alone."""
        return (
            isinstance(message, StreamChunk | StreamTrailer)
            and message.stream_id not in self._streams
            and not packet.destination_identities
        )

    def _request_of(self, message: Message) -> str:
        match message:
            case Request() | Ack() | Response() | ErrorResponse() | StreamHeader():
                return message.request_id
            case StreamChunk(stream_id) | StreamTrailer(stream_id):
                return self._streams.get(stream_id, "")
        return ""

    def _about(self, request_id: str | None) -> list[Seen]:
        if request_id is not None:
            return [seen for seen in self.inbox if seen.about == request_id]
        for first in self.inbox:
            message = first.message
            is_header = isinstance(message, StreamHeader) and message.topic == wire.REQUEST_TOPIC
            if isinstance(message, Request) or is_header:
                return self._about(first.about)
        return []

    def _skip_acks(self, request_id: str | None) -> None:
        if request_id is not None:
            for seen in self.acks_of(request_id):
                self.inbox.remove(seen)

    async def _first(self, what: str, request_id: str, skip_acks: bool = False) -> Seen:
        def look() -> Seen | None:
            if skip_acks:
                self._skip_acks(request_id)
            return next(iter(self._about(request_id)), None)

        return await self._must_come(what, look, request_id)

    async def _whole(
        self, what: str, request_id: str | None, read: Callable[[Sequence[Seen]], T | None]
    ) -> T:
        found: list[T] = []

        def look() -> bool | None:
            self._skip_acks(request_id)
            parts = self._about(request_id)
            if not parts or (whole := read(parts)) is None:
                return None
            found.append(whole)
            return True

        came = 0
        while await self._stage.until(look) is None:  # a body that grows may take longer
            if came == len(self._about(request_id)):
                raise Unmet(f"{what}, to {self.identity}", self._what_came(request_id))
            came = len(self._about(request_id))
        body = found[0] if isinstance(found[0], Body) else getattr(found[0], "body")  # noqa: B009
        for seen in body.parts:
            self.inbox.remove(seen)
        return found[0]

    async def _must_come(self, what: str, look: Callable[[], T | None], about: str) -> T:
        found = await self._stage.until(look)
        if found is None:
            raise Unmet(f"{what}, to {self.identity}", self._what_came(about))
        return found

    async def _what_answer(self, request_id: str, first: Seen) -> str:
        """What came in place of an error: of an answer its payload, if it is whole."""
        with suppress(Unmet):
            await self._stage.settle()
            if (body := read_answer(self._about(request_id))) is not None:
                return f"the answer {quoted(body.payload)}"
        return describe(first.message)

    def _what_came(self, about: str | None = None) -> str:
        """What is in the inbox; of what is about another request than `about`, its id too."""
        if not self.inbox:
            return "nothing"
        return ", ".join(
            describe(seen.message)
            if about is None or seen.about == about
            else f"{describe(seen.message)} about the request {seen.about!r}, not {about!r}"
            for seen in self.inbox[:5]
        )

    def _check_readable(self, form: Form) -> None:
        if form.client_protocol > self.reads:
            raise Unmet(
                f"a form that a participant with client_protocol {self.reads} reads", form.value
            )
        if form.is_compressed and 2 not in self.member.capabilities:
            raise Unmet("a form that a participant without the capability reads", form.value)
