"""The laws of encryption, held against random lives of an engine and against random worlds."""

from collections.abc import Callable
from random import Random

from engine_scripts import US, Input, Outcome, Recording, play
from hypothesis import given
from hypothesis import strategies as st
from script_strategies import LAW, long_recordings, recordings
from sealed_packets import KEY, OTHER_KEY, opened_packet, sealed_data, toy

from rpcproto import InvocationReceived, OutgoingPacket, PacketKind, RpcConfig, RpcEngine, wire
from rpcproto.e2ee import Cryptor
from rpcproto.testing import Later, Link, ToyCryptor, World
from rpcproto.wire import Sealed

SIX = ("rpc_request", "rpc_ack", "rpc_response", "stream_header", "stream_chunk", "stream_trailer")
ANSWERS = set(PacketKind) - {PacketKind.REQUEST}


def sealed_inputs(recording: Recording, cryptor: Cryptor) -> tuple[Input, ...]:
    return tuple(
        input_._replace(args=(sealed_data(input_.args[0], cryptor),))
        if input_.method == "receive_packet"
        else input_
        for input_ in without_sealed(recording)
    )


def without_sealed(recording: Recording) -> tuple[Input, ...]:
    """Sealed packets that are in a recording are of no use to anybody."""
    return tuple(
        input_
        for input_ in recording.inputs
        if input_.method != "receive_packet"
        or (decoded := wire.decode(input_.args[0])) is None
        or not isinstance(decoded.message, Sealed)
    )


def engine_of(
    recording: Recording, cryptor: Cryptor | None, *, accepts_plain: bool = False
) -> RpcEngine:
    ids = iter(recording.ids)
    values = {name: getattr(recording.config, name) for name in RpcConfig.__slots__}
    config = RpcConfig(**{**values, "accept_plain_packets": accepts_plain})
    return RpcEngine(US, new_id=ids.__next__, config=config, cryptor=cryptor)


def opened(outcome: Outcome) -> Outcome:
    """The outcome with its packets as they were before they were sealed."""
    return outcome._replace(packets=tuple(map(opened_packet, outcome.packets)))


@LAW
@given(long_recordings())
def test_a_sealed_life_is_a_plain_one_and_nothing_plain_leaves(recording: Recording) -> None:
    plain = engine_of(recording, None)
    expected = [play(plain, input_) for input_ in without_sealed(recording)]
    engine = engine_of(recording, toy(US))
    sealed = [play(engine, input_) for input_ in sealed_inputs(recording, toy("bob"))]
    assert list(map(opened, sealed)) == expected


@LAW
@given(recordings())
def test_with_the_same_ivs_the_same_inputs_give_the_same_bytes(recording: Recording) -> None:
    inputs = sealed_inputs(recording, toy("bob"))
    lives = []
    for _ in range(2):
        engine = engine_of(recording, toy(US))
        lives.append([play(engine, input_) for input_ in inputs])
    assert lives[0] == lives[1]


@LAW
@given(recordings())
def test_by_default_no_plain_packet_has_an_effect(recording: Recording) -> None:
    engine = engine_of(recording, toy(US))
    for input_ in recording.inputs:
        before = engine.statistics()
        outcome = play(engine, input_)
        if input_.method == "receive_packet":
            after = outcome.statistics
            ignored = sum(after.ignored.values()) - sum(before.ignored.values())
            assert ignored == after.packets_in - before.packets_in
            assert outcome.packets == ()
            assert after.open_streams_in == 0


@LAW
@given(recordings())
def test_where_plain_packets_count_a_plain_life_is_the_same_but_for_what_is_sealed(
    recording: Recording,
) -> None:
    plain = engine_of(recording, None)
    inputs = without_sealed(recording)
    expected = [play(plain, input_) for input_ in inputs]
    engine = engine_of(recording, toy(US), accepts_plain=True)
    announced: set[str] = set()
    plain_ids: set[tuple[str, str]] = set()
    for input_, outcome in zip(inputs, expected, strict=True):
        got = play(engine, input_)
        if input_.method == "participant_joined":
            announced.add(input_.args[0])
        elif input_.method == "receive_packet" and (packet := wire.decode(input_.args[0])):
            claimed = input_.keywords.get("sender_identity", packet.sender_identity)
            about = getattr(packet.message, "request_id", "")
            if claimed not in announced:
                plain_ids.add((claimed, about))
        elif input_.method in ("participant_left", "disconnected"):
            announced.clear()  # a superset of who may be answered plain is enough
        packets = []
        for ours, theirs in zip(got.packets, outcome.packets, strict=True):
            if isinstance(sealed_or_not(ours), Sealed):
                packets.append(opened_packet(ours))
                continue
            assert (ours.destination_identity, ours.request_id) in plain_ids
            assert ours.kind in ANSWERS
            packets.append(ours._replace(request_id=theirs.request_id))
        assert got._replace(packets=tuple(packets)) == outcome


def sealed_or_not(packet: OutgoingPacket) -> wire.Message:
    decoded = wire.decode(packet.data)
    assert decoded is not None
    return decoded.message


@LAW
@given(recordings(), st.integers(0, 40), st.integers(0, 40))
def test_keys_can_be_switched_at_any_moment(recording: Recording, ours: int, theirs: int) -> None:
    plain = engine_of(recording, None)
    inputs = without_sealed(recording)
    expected = [play(plain, input_) for input_ in inputs]
    ring, peer = toy(US), toy("bob")
    for each in (ring, peer):
        each.set_shared_key(OTHER_KEY, 9)
    engine = engine_of(recording, ring)
    reader = ToyCryptor(US)
    reader.set_shared_key(KEY)
    reader.set_shared_key(OTHER_KEY, 9)
    for at, (input_, outcome) in enumerate(zip(inputs, expected, strict=True)):
        if at == ours:
            ring.use(9)
        if at == theirs:
            peer.use(9)
        if input_.method == "receive_packet":
            input_ = input_._replace(args=(sealed_data(input_.args[0], peer),))  # noqa: PLW2901
        got = play(engine, input_)
        assert got._replace(packets=()) == outcome._replace(packets=())
        indices = {
            message.key_index
            for packet in got.packets
            if isinstance(message := sealed_or_not(packet), Sealed)
        }
        assert indices <= {9 if at >= ours else 0}
        assert len(got.packets) == len(outcome.packets)


# --- worlds


def life(seed: int, cryptors: Callable[[str], Cryptor | None]) -> World:
    """Participants who call each other over links that lose, repeat and reorder packets."""
    draw = Random(seed)
    link = Link(
        latency=draw.choice([0.0, 0.02, 0.5]),
        jitter=draw.choice([0.0, 0.1]),
        loss=draw.choice([0.0, 0.1]),
        repetition=draw.choice([0.0, 0.2]),
        reordering=draw.choice([0.0, 0.2]),
    )
    world = World(seed=seed, link=link, stamped=draw.random() < 0.5, cryptors=cryptors)
    names = ["alice", "bob", "carol"]

    def handle(invocation: InvocationReceived) -> Later:
        return Later(draw_of[invocation.payload[:8]], invocation.payload)

    draw_of: dict[str, float] = {}
    for name in names:
        version, able = draw.choice([(0, ()), (1, ()), (2, ()), (2, (2,))])
        world.join(name, client_protocol=version, capabilities=able).register("work", handle)
    for number in range(20):
        caller, recipient = draw.sample(names, 2)
        text = f"{number:08}" + "x" * draw.choice([0, 10, 600, 15_360, 40_000])
        draw_of[text[:8]] = draw.choice([0.0, 0.5, 9.0])
        at = draw.uniform(0, 10)

        def call(caller: str = caller, recipient: str = recipient, text: str = text) -> None:
            if world.participants[caller].is_connected:
                world.participants[caller].call(recipient, "work", text)

        world.at(at, call)
    cut = draw.choice(names)
    world.at(draw.uniform(0, 10), lambda: world.cut(cut))
    world.at(12.0, lambda: world.come_back(cut, replay=draw_replayed))
    draw_replayed = draw.choice([0, 5])
    world.run()
    return world


def test_in_a_world_of_sealed_packets_the_same_happens() -> None:
    outcomes: list[str] = []
    for seed in range(30):
        plain, sealed = life(seed, lambda identity: None), life(seed, toy)
        for identity, participant in plain.participants.items():
            assert sealed.participants[identity].events == participant.events
            ours, theirs = sealed.participants[identity].engine, participant.engine
            assert ours.statistics() == theirs.statistics()
        assert sealed.transcript() == plain.transcript()
        assert len(sealed.sent) == len(plain.sent)
        for sent in sealed.sent:
            decoded = wire.decode(sent.data)
            assert decoded is not None
            assert isinstance(decoded.message, Sealed)
        outcomes += [type(call.outcome).__name__ for call in plain.calls]
    assert outcomes.count("str") > 100
    assert outcomes.count("RpcError") > 10


def test_who_has_another_key_takes_no_part() -> None:
    keys = {"alice": KEY, "bob": KEY, "carol": OTHER_KEY}
    world = World(link=Link(latency=0.01), cryptors=lambda identity: toy(identity, keys[identity]))
    for name in keys:
        world.join(name).register("work", lambda invocation: "done")
    good = world.participants["alice"].call("bob", "work")
    bad = world.participants["alice"].call("carol", "work")
    world.run()
    assert good.outcome == "done"
    assert "1501" in str(bad.outcome)
    assert "carol: ignores a packet of alice, undecryptable" in world.transcript()


def test_a_participant_that_comes_back_goes_on_with_its_keys() -> None:
    world = World(cryptors=toy)
    for name in ("alice", "bob"):
        world.join(name).register("work", lambda invocation: "done")
    world.run()
    world.leave("alice")
    world.come_back("alice")
    call = world.participants["bob"].call("alice", "work")
    world.run()
    assert call.outcome == "done"
