"""What the benchmarks measure is what they say: each packet and each input has its effect."""

from contextlib import suppress

import pytest

from benchmarks import floor
from benchmarks.echo import Pair
from benchmarks.hostile import inputs, makers
from benchmarks.hostile.kinds import Kind, kinds, used_up
from benchmarks.hostile.packets import MAX_PACKET_BYTES
from benchmarks.hostile.scene import Scene, full_scene
from rpcproto import InvocationReceived, OutgoingPacket, RpcEngine
from rpcproto.core.packets_pb2 import DataPacket

KINDS = [*kinds(), used_up()]


@pytest.fixture(scope="module")
def full() -> Scene:
    return full_scene()


def do(scene: Scene, kind: Kind) -> None:
    """Send the packets of a kind; each has one of the effects, and nothing is left of them."""
    tables = scene.tables()
    for data in kind.make(scene):
        effects = scene.hear(data)
        assert effects.keys() & kind.effects, (kind.what, effects)
    assert scene.tables() == tables, kind.what


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what.strip())
def test_a_hostile_packet_has_the_effect_that_is_measured(kind: Kind, full: Scene) -> None:
    do(Scene(), kind)
    do(full, kind)


def test_a_request_finds_all_bytes_used_up() -> None:
    scene = Scene()
    makers.use_up_bytes(scene)
    do(scene, used_up())


@pytest.mark.parametrize("size", [100, 4_000, MAX_PACKET_BYTES])
def test_an_honest_packet_has_the_size_that_is_asked_for(size: int) -> None:
    [data] = makers.plain(Scene(), size)
    assert size - 3 <= len(data) <= size


@pytest.mark.parametrize("size", [4_000, 60_000])
@pytest.mark.parametrize("make", [makers.deflated_inline, makers.deflated_chunk])
def test_an_honest_deflated_packet_is_accepted(make: makers.SizedMaker, size: int) -> None:
    scene = Scene()
    for data in make(scene, size):
        assert abs(len(data) - size) < size / 50
        assert {"InvocationReceived", "bytes held"} & scene.hear(data).keys()


@pytest.mark.parametrize("name", inputs.MAKERS)
def test_an_input_leaves_the_tables_as_they_were(name: str, full: Scene) -> None:
    for scene in (Scene(), full):
        tables = scene.tables()
        made = inputs.MAKERS[name](scene)
        work = next(made)
        with suppress(StopIteration):
            while True:
                work = made.send(work())
        assert scene.tables() == tables


def test_the_floor_of_an_inline_call_has_the_fields_of_the_engines_packets() -> None:
    pair = Pair(client_protocol=2)
    pair.caller.call("bob", "echo", floor.PAYLOAD, now=0.0)
    request = taken(pair.caller).data
    pair.responder.receive_packet(request, now=0.0)
    ack = taken(pair.responder).data
    [event] = pair.responder.take_events()
    assert isinstance(event, InvocationReceived)
    pair.responder.respond(event.invocation_id, floor.PAYLOAD, now=0.0)
    response = taken(pair.responder).data
    floors = (floor.request_header(), floor.ack(), floor.response_header())
    for ours, theirs in zip((request, ack, response), floors, strict=True):
        assert shape(ours) == shape(theirs)
        assert len(ours) == len(theirs)


def taken(engine: RpcEngine) -> OutgoingPacket:
    """The packet that leaves next, where there must be one."""
    packet = engine.next_packet()
    assert packet is not None
    return packet


def shape(data: bytes) -> tuple[object, ...]:
    """The names of the fields, and the attributes but for the ids in them."""
    packet = DataPacket.FromString(data)
    header = packet.stream_header
    return (
        [field.name for field, _ in packet.ListFields()],
        [field.name for field, _ in header.ListFields()],
        {key: len(value) for key, value in header.attributes.items()},
    )
