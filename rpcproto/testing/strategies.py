"""Hypothesis strategies for packets, engine inputs and conversations.

Use them to test any implementation of the protocol that Python can pass bytes to. Every strategy
takes a `Setting`, which describes the state of the receiver under test. Each packet has a
`Verdict`: what a correct receiver does with it, as far as the packet alone determines that.

Needs the extra `testing`.
"""

from collections.abc import Mapping
from typing import NamedTuple, final

from hypothesis import strategies as st

from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import LocalProtocolError
from rpcproto.publishing import publish
from rpcproto.testing.conversations import Conversation, ConversationPacket, Exchange, conversations
from rpcproto.testing.drawn_packets import (
    PAYLOADS,
    DrawnPacket,
    Setting,
    Verdict,
    acks,
    answers,
    request_headers,
    requests,
    response_headers,
    responses,
    valid_packets,
)
from rpcproto.testing.drawn_wrongly import (
    forged_answers,
    garbage,
    misdirected_packets,
    packets,
    sealed_wrongly,
    stream_parts,
    wrong_packets,
)

__all__ = [
    "Conversation",
    "ConversationPacket",
    "DrawnPacket",
    "EngineInput",
    "Exchange",
    "Setting",
    "Verdict",
    "acks",
    "answers",
    "conversations",
    "engine_inputs",
    "forged_answers",
    "garbage",
    "misdirected_packets",
    "packets",
    "request_headers",
    "requests",
    "response_headers",
    "responses",
    "sealed_wrongly",
    "stream_parts",
    "valid_packets",
    "wrong_packets",
]


@final
class EngineInput(NamedTuple):
    """One call of a method of `RpcEngine`, without its `now`."""

    method: str
    arguments: tuple[object, ...] = ()
    keywords: Mapping[str, object] = {}

    def apply(self, engine: RpcEngine, now: float) -> object:
        """Make the call, and return its result, or the class LocalProtocolError if it raises
        that."""
        try:
            method = getattr(engine, self.method)
            result: object = method(*self.arguments, **self.keywords, now=now)
        except LocalProtocolError:
            return LocalProtocolError
        return result


_TIMEOUTS = st.sampled_from([None, 1.0, 7.0, 30.0])


def engine_inputs(setting: Setting = Setting()) -> st.SearchStrategy[EngineInput]:  # noqa: B008 (frozen)
    """Draw inputs for an engine of `setting.receiver`.

    Invocations have the numbers 1 to 8, which an engine uses first. Answers name the calls of
    `setting.call_ids`, not those that a drawn `call` begins; `cancel` also names a call that does
    not exist. Two inputs with `now` are left to the test: `send_failed`, which takes a
    packet from the engine, and `close`, after which nothing happens.
    """
    sender, invocation = st.sampled_from(setting.senders), st.integers(1, 8)
    sid = st.sampled_from(["", "PA_1", *setting.sids.values()])

    def keywords(**strategies: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
        return st.fixed_dictionaries(strategies)

    def inputs(
        method: str,
        *arguments: st.SearchStrategy[object],
        options: st.SearchStrategy[dict[str, object]] = st.just({}),  # noqa: B008
    ) -> st.SearchStrategy[EngineInput]:
        return st.builds(EngineInput, st.just(method), st.tuples(*arguments), options)

    return st.one_of(
        inputs("receive_packet", packets(setting).map(lambda packet: packet.data)),
        inputs("handle_deadline"),
        inputs(
            "call",
            sender,
            st.sampled_from(setting.methods),
            PAYLOADS,
            options=keywords(response_timeout=_TIMEOUTS, ack_timeout=_TIMEOUTS),
        ),
        inputs("cancel", st.sampled_from([*setting.call_ids, "no such call"])),
        inputs("respond", invocation, PAYLOADS),
        inputs("respond_error", invocation, st.sampled_from([2001, 1500, 0]), PAYLOADS),
        inputs(
            "participant_joined",
            sender,
            options=keywords(
                participant_sid=sid,
                client_protocol=st.integers(0, 2),
                capabilities=st.sampled_from([(), (2,)]),
            ),
        ),
        inputs("participant_left", sender, options=keywords(participant_sid=sid)),
        inputs(
            "connected",
            options=keywords(
                server_version=st.sampled_from([None, "1.8.0", "1.7.9"]),
                participants_complete=st.booleans(),
            ),
        ),
        inputs("disconnected"),
    )


publish(globals())
