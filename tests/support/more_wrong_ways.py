"""More testees that are wrong in one way: for the sections 1 to 8 of the conformance suite."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from wrong_ways import (
    Change,
    DeadAfterDepartures,
    FailingDuplicates,
    OneStreamEach,
    Right,
    WithoutPresence,
    clearing,
    ignoring,
    is_inline,
    not_sending,
    parsed,
    reading,
    sending,
    stuck_by,
)

from rpcproto import RpcConfig, wire
from rpcproto.conformance.attachment import Member
from rpcproto.core.packets_pb2 import DataPacket


def is_request(packet: DataPacket) -> bool:
    return packet.HasField("rpc_request") or packet.stream_header.topic == wire.REQUEST_TOPIC


def is_answer(packet: DataPacket) -> bool:
    return packet.HasField("rpc_response") or packet.stream_header.topic == wire.RESPONSE_TOPIC


def is_error(packet: DataPacket) -> bool:
    return packet.rpc_response.HasField("error")


def request_id(packet: DataPacket) -> str:
    """The id of the request that a packet begins, or is an answer to."""
    return (
        packet.rpc_request.id
        or packet.rpc_response.request_id
        or packet.stream_header.attributes.get(wire.REQUEST_ID, "")
    )


def with_id(change: Callable[[str], str]) -> Change:
    def changed(packet: DataPacket) -> None:
        if packet.HasField("rpc_request"):
            packet.rpc_request.id = change(packet.rpc_request.id)
        elif wire.REQUEST_ID in packet.stream_header.attributes:
            attributes = packet.stream_header.attributes
            attributes[wire.REQUEST_ID] = change(attributes[wire.REQUEST_ID])
        elif packet.HasField("rpc_response"):
            packet.rpc_response.request_id = change(packet.rpc_response.request_id)

    return changed


def wrong_version(packet: DataPacket) -> None:
    if packet.HasField("rpc_request"):
        packet.rpc_request.version = 7
    elif is_request(packet):
        packet.stream_header.attributes[wire.VERSION] = "7"


def with_timeout(change: Callable[[int], int]) -> Change:
    def changed(packet: DataPacket) -> None:
        if packet.HasField("rpc_request"):
            request = packet.rpc_request
            request.response_timeout_ms = change(request.response_timeout_ms)
        elif is_request(packet):
            attributes = packet.stream_header.attributes
            was = int(attributes[wire.RESPONSE_TIMEOUT_MS])
            attributes[wire.RESPONSE_TIMEOUT_MS] = str(change(was))

    return changed


def as_stream(packet: DataPacket) -> None:
    """Sends requests and answers as streams, whoever gets them."""
    request, response = packet.rpc_request, packet.rpc_response
    if packet.HasField("rpc_request"):
        attributes = wire.request_attributes(request.id, request.method, 8_000)
        topic, text = wire.REQUEST_TOPIC, request.payload
    elif response.HasField("payload"):
        attributes = wire.response_attributes(response.request_id)
        topic, text = wire.RESPONSE_TOPIC, response.payload
    else:
        return
    packet.stream_header.topic = topic
    packet.stream_header.stream_id = "a stream"
    packet.stream_header.attributes.update(attributes)
    packet.stream_header.inline_content = text.encode()
    packet.stream_header.text_header.SetInParent()


class Repeating(Right):
    """Sends each request and each ack twice."""

    def outgoing(self, data: bytes) -> list[bytes]:
        packet = parsed(data)
        return [data] * (2 if is_request(packet) or packet.HasField("rpc_ack") else 1)


class LateAcks(Right):
    """Acknowledges a request when its answer has been sent."""

    held: bytes = b""

    def outgoing(self, data: bytes) -> Iterator[bytes]:
        if parsed(data).HasField("rpc_ack"):
            self.held = data
            return
        yield data
        if self.held:
            yield self.held
            self.held = b""


class Seen(Right):
    """Ignores what it has seen before: `mark` says of a packet what that is, or None."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = set[object]()

    def mark(self, packet: DataPacket) -> object:
        raise NotImplementedError

    def incoming(self, data: bytes) -> Iterator[bytes]:
        mark = self.mark(parsed(data))
        if mark is None or mark not in self.seen:
            yield data
        self.seen.add(mark)


class KnownByIdAlone(Seen):
    def mark(self, packet: DataPacket) -> object:
        return request_id(packet) or None if is_request(packet) else None


class KnownByStreamAlone(Seen):
    def mark(self, packet: DataPacket) -> object:
        return packet.stream_header.stream_id or None


class NumbersOfAll(Seen):
    def mark(self, packet: DataPacket) -> object:
        return packet.sequence or None


class NumbersByIdentity(Seen):
    def mark(self, packet: DataPacket) -> object:
        return (packet.participant_identity, packet.sequence) if packet.sequence else None


class NoNumberIsOne(Seen):
    def mark(self, packet: DataPacket) -> object:
        if packet.participant_identity.startswith("alice") and not packet.sequence:
            return packet.participant_identity
        return None


class InOrder(Right):
    """Ignores packets whose number is not above the last one."""

    last = 0

    def incoming(self, data: bytes) -> Iterator[bytes]:
        number = parsed(data).sequence
        if not number or number > self.last:
            yield data
        self.last = max(number, self.last)


class RunningAgain(Right):
    """Runs a request as often as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, int] = {}
        self.renamed: dict[str, str] = {}

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        header = packet.stream_header
        if is_request(packet) and (name := request_id(packet)):
            self.times[name] = times = self.times.get(name, 0) + 1
            if times > 1:
                with_id(lambda name: f"{name}~{times}")(packet)
                packet.ClearField("sequence")
                if header.stream_id:
                    self.renamed[header.stream_id] = f"{header.stream_id}~{times}"
        for part in (header, packet.stream_chunk, packet.stream_trailer):
            if part.stream_id in self.renamed:
                part.stream_id = self.renamed[part.stream_id]
        yield packet.SerializeToString()

    def outgoing(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if packet.HasField("rpc_ack"):
            packet.rpc_ack.request_id = packet.rpc_ack.request_id.partition("~")[0]
        with_id(lambda name: name.partition("~")[0])(packet)
        yield packet.SerializeToString()


def at_speed(factor: float) -> type[Right]:
    """Has a clock that is too fast or too slow."""

    class AtSpeed(Right):
        def tell(self, fields: dict[str, Any]) -> None:
            super().tell({"now": fields["now"] * factor} if "now" in fields else fields)

    return AtSpeed


def configured(config: RpcConfig) -> type[Right]:
    class Configured(Right):
        CONFIG = config

    return Configured


class NeedingAcks(Right):
    """Looks at answers only once the call has been acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.acked = set[str]()

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if packet.HasField("rpc_ack"):
            self.acked.add(packet.rpc_ack.request_id)
        if not is_answer(packet) or request_id(packet) in self.acked:
            yield data


class OneAtATime(Right):
    """Runs one handler at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.running, self.waiting = "", list[bytes]()

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if is_request(packet) and self.running:
            self.waiting.append(data)
            return
        if is_request(packet):
            self.running = request_id(packet)
        yield data

    def outgoing(self, data: bytes) -> Iterator[bytes]:
        yield data
        if is_answer(packet := parsed(data)) and request_id(packet) == self.running:
            self.running, waiting, self.waiting = "", self.waiting, []
            for later in waiting:
                self.send(later)


class Telling(Right):
    """Sends what it was given as the data of its errors."""

    given = ""

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        given = packet.rpc_request.payload or packet.stream_header.inline_content.decode()
        self.given = given or packet.stream_chunk.content.decode(errors="replace") or self.given
        yield data

    def outgoing(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if is_error(packet):
            packet.rpc_response.error.data = self.given
        yield packet.SerializeToString()


def calling(**wanted: object) -> type[Right]:
    """Makes another call than it was asked for."""

    def change(packet: DataPacket) -> None:
        content = packet.rpc_request.payload or packet.stream_header.inline_content.decode()
        if not content:
            content = packet.stream_chunk.content.decode(errors="replace")
        try:
            asked = json.loads(content)
        except ValueError:
            return
        if not isinstance(asked, dict) or "destination" not in asked:
            return
        text = json.dumps(asked | wanted)
        if packet.HasField("rpc_request"):
            packet.rpc_request.payload = text
        elif is_inline(packet):
            packet.stream_header.inline_content = text.encode()
            packet.stream_header.ClearField("total_length")
        else:
            packet.stream_chunk.content = text.encode()

    return reading(change)


def long_errors(packet: DataPacket) -> None:
    if is_error(packet):
        packet.rpc_response.error.message += "m" * 300
        packet.rpc_response.error.data += "d" * 16_000


def strip_bom(packet: DataPacket) -> None:
    response, header = packet.rpc_response, packet.stream_header
    if response.HasField("payload"):
        response.payload = response.payload.lstrip("\ufeff")
    if header.inline_content and not header.compression:
        header.inline_content = header.inline_content.decode().lstrip("\ufeff").encode()
        header.ClearField("total_length")


def empty_is_absent(packet: DataPacket) -> None:
    if packet.rpc_response.HasField("payload") and not packet.rpc_response.payload:
        packet.rpc_response.ClearField("payload")


def no_value_is_empty(packet: DataPacket) -> None:
    if packet.HasField("rpc_response") and packet.rpc_response.WhichOneof("value") is None:
        packet.rpc_response.payload = ""


def blank_message(packet: DataPacket) -> None:
    if is_error(packet) and not packet.rpc_response.error.message:
        packet.rpc_response.error.message = " "


def other_message(packet: DataPacket) -> None:
    if is_error(packet):
        packet.rpc_response.error.message = "oh no"


class ForNobody(Right):
    """Takes everybody for one of client_protocol 0."""

    async def announce(self, member: Member) -> None:
        await super().announce(member._replace(client_protocol=0, capabilities=()))


class StuckByReturns(Right):
    """Serves nobody any more when somebody is announced who is here already."""

    def __init__(self) -> None:
        super().__init__()
        self.here = set[str]()

    async def announce(self, member: Member) -> None:
        await super().announce(member)
        self.is_stuck = self.is_stuck or bool({member.identity, member.sid} & self.here)
        self.here |= {member.identity, member.sid}


class Credulous(Right):
    """Takes whoever answers for the callee, and whoever sends a chunk for its sender."""

    def __init__(self) -> None:
        super().__init__()
        self.callee = ""
        self.senders: dict[str, tuple[str, str]] = {}

    def outgoing(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if is_request(packet):
            self.callee = packet.destination_identities[0]
        yield data

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        header = packet.stream_header
        if is_answer(packet) or packet.HasField("rpc_ack"):
            packet.participant_identity = self.callee
            packet.ClearField("participant_sid")
        who = packet.participant_identity, packet.participant_sid
        if header.stream_id:
            self.senders[header.stream_id] = who
        stream_id = packet.stream_chunk.stream_id or packet.stream_trailer.stream_id
        packet.participant_identity, packet.participant_sid = self.senders.get(stream_id, who)
        yield packet.SerializeToString()


class AnyId(Right):
    """Takes every answer for that to the latest call."""

    latest = ""

    def outgoing(self, data: bytes) -> Iterator[bytes]:
        if is_request(packet := parsed(data)):
            self.latest = request_id(packet)
        yield data

    def incoming(self, data: bytes) -> Iterator[bytes]:
        packet = parsed(data)
        if is_answer(packet):
            with_id(lambda name: self.latest)(packet)
        yield packet.SerializeToString()


def for_us(packet: DataPacket) -> None:
    packet.ClearField("destination_identities")


def not_generated(packet: DataPacket) -> None:
    if packet.HasField("stream_header"):
        packet.stream_header.text_header.ClearField("generated")


def by_attributes(packet: DataPacket) -> None:
    if packet.HasField("stream_header"):
        is_one = wire.METHOD in packet.stream_header.attributes
        packet.stream_header.topic = wire.REQUEST_TOPIC if is_one else wire.RESPONSE_TOPIC


class FirstSender(Right):
    """Takes the first of two senders of a packet."""

    def incoming(self, data: bytes) -> list[bytes]:
        packet = parsed(data)
        if data.startswith(b"\x22"):
            packet.participant_identity = data[2 : 2 + data[1]].decode()
        return [packet.SerializeToString()]


class ForgetsSoon(Right):
    """Has forgotten a request 5 s after it came."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, float] = {}

    def incoming(self, data: bytes) -> list[bytes]:
        packet = parsed(data)
        attributes = packet.stream_header.attributes
        if self.is_forgotten(packet.rpc_request.id):
            packet.rpc_request.id += "-again"
        elif self.is_forgotten(attributes.get(wire.REQUEST_ID, "")):
            attributes[wire.REQUEST_ID] += "-again"
        return [packet.SerializeToString()]

    def is_forgotten(self, request_id: str) -> bool:
        now = self.testee.now
        return bool(request_id) and now - self.times.setdefault(request_id, now) > 5


MORE_WRONG_WAYS: Final[tuple[tuple[str, type[Right]], ...]] = (
    ("1.1 1.10 1.11 5.20", not_sending(is_request)),
    ("1.2", sending(with_id(lambda name: name[:30]))),
    ("1.3", sending(with_id(str.upper))),
    ("1.4", sending(with_id(lambda name: "a" * 36))),
    ("1.5", sending(wrong_version)),
    ("1.6 1.8 3.1 6.10", sending(as_stream)),
    ("1.9 2.8 3.4", sending(for_us)),
    ("1.12 2.7", Repeating),
    ("2.1 2.2 2.3 2.4 2.5 2.6", LateAcks),
    ("2.9", KnownByIdAlone),
    ("2.10 4.17", stuck_by(lambda one: one.HasField("rpc_ack"))),
    ("2.11", stuck_by(lambda one: one.HasField("rpc_ack"), 2)),
    ("3.3 5.29 5.30", not_sending(lambda one: one.stream_header.topic == wire.RESPONSE_TOPIC)),
    ("3.5", sending(empty_is_absent)),
    ("3.6", sending(strip_bom)),
    ("3.7 3.10 4.13 5.15 5.17 7.16 7.18",
     ignoring(lambda one: one.HasField("rpc_response") or is_inline(one))),
    ("3.8 8.18", ignoring(lambda one: one.stream_header.topic == wire.RESPONSE_TOPIC
                          and not is_inline(one))),
    ("3.9", ignoring(lambda one: one.stream_header.topic == wire.RESPONSE_TOPIC)),
    ("3.11", reading(no_value_is_empty)),
    ("3.12", sending(clearing("stream_header", "total_length"))),
    ("3.13 5.1 5.2 5.3 5.4 5.7 5.8 5.9 5.10 5.11 5.12 5.27 5.28", not_sending(is_error)),
    ("4.1 4.2 4.3 4.4 4.5 4.15 4.19 4.22 4.30 6.11 6.12", at_speed(0.5)),
    ("4.14", stuck_by(is_answer)),
    ("4.7 4.10 4.12 4.27 4.31", sending(with_timeout(lambda timeout: timeout // 1_000))),
    ("4.11", sending(with_timeout(lambda timeout: max(timeout, 8_000)))),
    ("4.16 4.18", NeedingAcks),
    ("4.20", configured(RpcConfig(invocation_grace=0.1))),
    ("4.23", OneAtATime),
    ("4.24", ignoring(lambda one: one.HasField("rpc_ack"))),
    ("4.26", configured(RpcConfig(stream_idle_timeout=3))),
    ("5.5", Telling),
    ("5.6", sending(other_message)),
    ("5.13 5.14", sending(long_errors)),
    ("5.16", reading(blank_message)),
    ("5.18", calling(method="m")),
    ("5.19", calling(destination="nobody")),
    ("5.21 5.22", calling(payload="x", times=1)),
    ("5.23", ForNobody),
    ("5.24 5.25 5.31", ignoring(lambda one: one.ByteSize() > 15_000)),
    ("5.26", not_sending(lambda one: one.ByteSize() > 15_000)),
    ("6.1 6.3 6.6 6.13 6.14 6.16 6.23", WithoutPresence),
    ("6.5 6.7 6.9 6.15 6.17", DeadAfterDepartures),
    ("6.8 6.18 6.19", StuckByReturns),
    ("7.1 7.2 7.3 7.4 7.5 7.8 7.9 7.10", Credulous),
    ("7.6", reading(lambda one: one.ClearField("participant_sid"))),
    ("7.11", KnownByStreamAlone),
    ("7.12", stuck_by(is_answer, 2)),
    ("7.13", ignoring(is_error)),
    ("7.14", OneStreamEach),
    ("7.15", AnyId),
    ("7.17", reading(not_generated)),
    ("7.19", reading(for_us)),
    ("7.20", stuck_by(lambda one: not one.destination_identities)),
    ("7.21", reading(by_attributes)),
    ("7.23", FirstSender),
    ("8.22", ForgetsSoon),
    ("8.1 8.2 8.3 8.4 8.6 8.7 8.8 8.9 8.10 8.11 8.12 8.19 8.20",
     RunningAgain),
    ("8.5 8.18", FailingDuplicates),
    ("8.13", InOrder),
    ("8.14", NumbersOfAll),
    ("8.15", NumbersByIdentity),
    ("8.16", NoNumberIsOne),
    ("8.17", KnownByIdAlone),
)  # fmt: skip
"""The cases that must see it, and the testee."""
