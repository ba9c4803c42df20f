"""The strategies for users: what they say of a packet is what an engine makes of it."""

import itertools
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from helpers import MESSAGES, Participant, parsed, sent_message
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from script_strategies import LAW
from sealed_packets import toy

from rpcproto import CallFailed, CallSucceeded, InvocationReceived, PacketIgnored, RpcEngine
from rpcproto.core.packets_pb2 import EncryptedPacketPayload
from rpcproto.testing import ToyCryptor, counting_ids
from rpcproto.testing.strategies import (
    Conversation,
    DrawnPacket,
    EngineInput,
    Setting,
    Verdict,
    conversations,
    engine_inputs,
    garbage,
    packets,
    stream_parts,
    valid_packets,
    wrong_packets,
)
from rpcproto.wire import Sealed, StreamChunk, decode

CALLS = tuple(itertools.islice(iter(counting_ids("a"), ""), 2))
SIDS = {"bob": "PA_bob", "carol": "PA_carol"}
SETTING = Setting(sids=SIDS, call_ids=CALLS)
WITHOUT_CALLS = Setting()
SEALED = Setting(sids=SIDS, call_ids=CALLS, cryptor=toy())


def receiver(setting: Setting) -> Participant:
    """Whom a setting describes."""
    alice = Participant(
        setting.receiver,
        new_id=counting_ids("a"),
        methods=setting.methods,
        cryptor=toy() if setting.cryptor else None,
    )
    for sender in setting.senders:
        alice.joined(sender, setting.sids.get(sender, ""))
    for call in setting.call_ids:
        assert alice.call(setting.senders[0]) == call
    alice.packets()
    return alice


def refusals(alice: Participant) -> list[int]:
    """Codes with which requests were answered, or calls failed; each has the standard message."""
    refused = [event[1:3] for event in alice.events() if isinstance(event, CallFailed)]
    for packet in alice.packets():
        message = sent_message(packet)
        response: Any = parsed(packet).rpc_response
        if isinstance(message, Sealed):
            opened = toy().open("alice", *message)
            assert isinstance(opened, bytes)
            response = EncryptedPacketPayload.FromString(opened).rpc_response
        if response.HasField("error"):
            refused.append((response.error.code, response.error.message))
    assert all(message == MESSAGES[code] for code, message in refused)
    return [code for code, _ in refused]


@pytest.mark.parametrize(
    "setting", [SETTING, WITHOUT_CALLS, SEALED], ids=["calls", "no calls", "sealed"]
)
def test_valid_packets_are_taken(setting: Setting) -> None:
    @LAW
    @given(valid_packets(setting))
    def check(packet: DrawnPacket) -> None:
        alice = receiver(setting)
        before = alice.appearance[0], alice.statistics.open_streams_in
        alice.receive(packet.data)
        assert packet.verdict is Verdict.TAKEN
        assert alice.ignored == {}
        after = alice.next_deadline, alice.statistics.open_streams_in
        events = alice.events()
        assert events or before != after
        if not isinstance(events[0] if events else None, CallFailed):
            assert all(packet.kind.value == "ack" for packet in alice.packets())

    check()


@pytest.mark.parametrize(
    "setting", [SETTING, WITHOUT_CALLS, SEALED], ids=["calls", "no calls", "sealed"]
)
def test_wrong_packets_are_refused_or_ignored_as_they_say(setting: Setting) -> None:
    @settings(LAW, max_examples=80)
    @given(wrong_packets(setting))
    def check(packet: DrawnPacket) -> None:
        alice = receiver(setting)
        alice.receive(packet.data)
        if packet.verdict.is_refused:
            assert alice.ignored == {}
            assert refusals(alice) == [packet.code]
        else:
            assert packet.verdict.is_ignored
            assert sum(alice.ignored.values()) == 1
            assert all(isinstance(event, PacketIgnored) for event in alice.events())
            assert alice.packets() == []
            assert alice.statistics.pending_calls == len(setting.call_ids)

    check()


@pytest.mark.parametrize("setting", [SETTING, SEALED], ids=["plain", "sealed"])
def test_garbage_never_raises(setting: Setting) -> None:
    @settings(LAW, max_examples=80)
    @given(st.lists(st.one_of(garbage(setting), stream_parts(setting)), max_size=5))
    def check(drawn: list[DrawnPacket]) -> None:
        alice = receiver(setting)
        for packet in drawn:
            assert packet.verdict is Verdict.OPEN
            alice.receive(packet.data)

    check()


def kinds_of(strategy: st.SearchStrategy[DrawnPacket], examples: int) -> Counter[str]:
    kinds: Counter[str] = Counter()

    @settings(LAW, max_examples=examples, phases=[Phase.generate])
    @given(strategy)
    def collect(packet: DrawnPacket) -> None:
        kinds[packet.what] += 1

    collect()
    return kinds


def test_every_kind_of_packet_is_drawn() -> None:
    assert {"request", "request header", "ack", "response", "response header"} <= {
        *kinds_of(valid_packets(SETTING), 300)
    }
    assert {"chunk", "trailer"} == {*kinds_of(stream_parts(SETTING), 50)}
    assert len(kinds_of(garbage(SETTING), 100)) == 5
    assert len(kinds_of(wrong_packets(SETTING), 300)) > 50
    assert len(kinds_of(packets(SETTING), 200)) > 30


def test_a_verdict_says_what_is_a_policy_of_ours() -> None:
    verdicts: dict[str, Verdict] = {}

    @settings(LAW, max_examples=400, phases=[Phase.generate])
    @given(wrong_packets(SETTING))
    def collect(packet: DrawnPacket) -> None:
        verdicts[packet.what] = packet.verdict

    collect()

    def of(what: str) -> set[Verdict]:
        return {verdict for name, verdict in verdicts.items() if what in name}

    assert of("an unknown method") == {Verdict.REFUSED}
    assert of("from a third") == {Verdict.IGNORED}
    assert of("130 bytes of") == {Verdict.IGNORED_BY_POLICY}
    assert of("257 bytes of name") == {Verdict.IGNORED_BY_POLICY}
    assert [verdict for verdict in Verdict if verdict.is_policy] == [
        Verdict.REFUSED_BY_POLICY,
        Verdict.IGNORED_BY_POLICY,
    ]


def test_a_receiver_of_v1_gets_no_streams() -> None:
    kinds = kinds_of(valid_packets(Setting(client_protocol=0, call_ids=CALLS)), 100)
    assert {*kinds} == {"request", "ack", "response"}


# engine inputs


@LAW
@given(st.lists(st.tuples(engine_inputs(SETTING), st.sampled_from([0.0, 1.0, 7.0]))))
def test_engine_inputs_are_inputs_of_an_engine(inputs: list[tuple[EngineInput, float]]) -> None:
    engine, now = RpcEngine("alice", new_id=counting_ids("a")), 0.0
    for input_, seconds in inputs:
        now += seconds
        result = input_.apply(engine, now)
        assert isinstance(result, str | bool | type | None)


def test_every_input_is_drawn() -> None:
    methods: set[str] = set()

    @settings(LAW, max_examples=200, phases=[Phase.generate])
    @given(engine_inputs(SETTING))
    def collect(input_: EngineInput) -> None:
        methods.add(input_.method)

    collect()
    assert methods == {
        *["receive_packet", "handle_deadline", "call", "cancel", "respond", "respond_error"],
        *["participant_joined", "participant_left", "connected", "disconnected"],
    }


# conversations


def played(conversation: Conversation, setting: Setting) -> Counter[tuple[object, ...]]:
    """How often each thing came of a conversation at a correct receiver."""
    alice, seen = receiver(setting), Counter[tuple[object, ...]]()
    began = alice.now
    answers = {
        (exchange.caller_identity, exchange.request_id): exchange
        for exchange in conversation.exchanges
    }

    def look() -> None:
        for event in alice.events():
            if isinstance(event, InvocationReceived):
                name = event.caller_identity, event.request_id
                seen["ran", *name, event.payload] += 1
                exchange = answers.get(name)
                alice.respond(event.invocation_id, (exchange and exchange.answer) or "")
            elif isinstance(event, CallSucceeded):
                seen["answered", event.request_id, event.payload] += 1
            elif isinstance(event, CallFailed):
                seen["failed", *event] += 1

    for packet in conversation.to("alice"):
        while (deadline := alice.next_deadline) is not None and deadline <= began + packet.at:
            alice.time_is(deadline)
            look()
        alice.now = began + packet.at
        alice.receive(packet.data)
        look()
    return seen


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize("calls", [(), CALLS], ids=["no calls", "calls"])
@pytest.mark.parametrize("cryptor", [None, toy()], ids=["plain", "sealed"])
def test_a_correct_receiver_does_as_a_conversation_says(
    protocol: int, calls: tuple[str, ...], cryptor: ToyCryptor | None
) -> None:
    setting = Setting(client_protocol=protocol, sids=SIDS, call_ids=calls, cryptor=cryptor)

    @settings(LAW, max_examples=40)
    @given(conversations(setting))
    def check(conversation: Conversation) -> None:
        seen = played(conversation, setting)
        runs = Counter(what[1:3] for what in seen.elements() if what[0] == "ran")
        ends = Counter(what[1] for what in seen.elements() if what[0] != "ran")
        assert all(count == 1 for count in [*runs.values(), *ends.values()])
        for exchange in conversation.exchanges:
            id_ = exchange.request_id
            if not exchange.is_whole:
                continue
            if exchange.responder_identity == "alice":
                assert seen["ran", exchange.caller_identity, id_, exchange.payload] == 1
            elif exchange.error is None:
                assert seen["answered", id_, exchange.answer] == 1
            else:
                assert seen["failed", id_, *exchange.error] == 1

    check()


@LAW
@given(conversations(SETTING, mischief=False))
def test_without_mischief_everything_is_whole_and_in_order(conversation: Conversation) -> None:
    assert all(exchange.is_whole for exchange in conversation.exchanges)
    times = [packet.at for packet in conversation.packets]
    assert times == sorted(times)


def test_conversations_have_everything_in_them() -> None:
    whats: set[str] = set()

    @settings(LAW, max_examples=100, phases=[Phase.generate])
    @given(conversations(SETTING))
    def collect(conversation: Conversation) -> None:
        whats.update(packet.what for packet in conversation.packets)

    collect()
    plain = {"request", "ack", "response", "error", "inline stream", "stream header", "chunk"}
    assert plain | {"trailer"} <= whats
    assert {"again", "forged", "cut"} <= {what.split()[-1] for what in whats}


def drawn(setting: Setting, examples: int) -> list[Conversation]:
    found: list[Conversation] = []

    @settings(LAW, max_examples=examples, phases=[Phase.generate])
    @given(conversations(setting))
    def collect(conversation: Conversation) -> None:
        found.append(conversation)

    collect()
    return found


def sizes_of(found: list[Conversation]) -> set[int]:
    """The sizes of payloads and answers."""
    exchanges = [exchange for conversation in found for exchange in conversation.exchanges]
    texts = [text for one in exchanges for text in (one.payload, one.answer or "")]
    return {len(text.encode()) for text in texts}


def test_conversations_come_near_the_limits() -> None:
    found = drawn(WITHOUT_CALLS, 200)
    sizes = sizes_of(found)
    assert len(sizes & {14_999, 15_000, 15_001, 15_359, 15_360}) >= 3
    assert len(sizes & {15_361, 30_002, 64_000, 64_200}) >= 3
    assert all(len(packet.data) <= 64_000 for one in found for packet in one.packets)
    assert sizes_of(drawn(replace(WITHOUT_CALLS, max_payload_bytes=20_000), 50)) & {20_000, 19_999}
    assert max(sizes_of(drawn(replace(WITHOUT_CALLS, client_protocol=0), 50))) <= 15_360


def chunks_of(conversation: Conversation) -> list[list[int]]:
    """The indices of the chunks of each stream, in the order in which they arrive."""
    streams: dict[str, list[int]] = {}
    for packet in conversation.packets:
        decoded = decode(packet.data)
        if packet.what == "chunk" and decoded and isinstance(decoded.message, StreamChunk):
            streams.setdefault(decoded.message.stream_id, []).append(decoded.message.chunk_index)
    return list(streams.values())


def test_two_chunks_change_places_cleanly() -> None:
    def is_swapped(chunks: list[int]) -> bool:
        return chunks != sorted(chunks) and sorted(chunks) == [*range(len(chunks))]

    swapped = [one for one in drawn(SETTING, 200) if any(map(is_swapped, chunks_of(one)))]
    assert len(swapped) >= 2
    assert not any(all(exchange.is_whole for exchange in one.exchanges) for one in swapped)


def test_conversations_are_late_lost_and_out_of_order() -> None:
    def is_late(conversation: Conversation) -> bool:
        return any(packet.at >= 60 for packet in conversation.packets)

    def is_broken(conversation: Conversation) -> bool:
        return not all(exchange.is_whole for exchange in conversation.exchanges)

    assert find(conversations(SETTING), is_late, settings=LAW)
    shortest = find(conversations(WITHOUT_CALLS), is_broken, settings=LAW)
    assert len(shortest.exchanges) == 1
    assert len(shortest.packets) <= 3


# the module


def test_the_kit_does_without_hypothesis() -> None:
    script = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import rpcproto.testing\n"
        "try: import rpcproto.testing.strategies\n"
        "except ImportError: print('needs it')"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "needs it"
