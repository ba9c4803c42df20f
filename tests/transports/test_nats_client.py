"""What is read from a NATS server: every message as it is, but for those that are too large."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcproto.testing import virtual_time_run
from rpcproto.transports import BATCH_BYTES
from rpcproto.transports.nats import client as nats_client
from rpcproto.transports.nats.client import MESSAGES_PER_TURN, RoomClient

LIMIT = 100
"""In place of 128 KiB; and what is read at a time is less, as with the real figures."""


def msg(subject: bytes, data: bytes, *, headers: bytes = b"", sid: int = 1) -> bytes:
    if headers:
        sizes = b"%d %d" % (len(headers), len(headers) + len(data))
        return b"HMSG %b %d %b\r\n%b%b\r\n" % (subject, sid, sizes, headers, data)
    return b"MSG %b %d %d\r\n%b\r\n" % (subject, sid, len(data), data)


async def read(client: RoomClient, data: bytes, sizes: list[int]) -> None:
    """Let nats-py's parser have this in pieces of these sizes, and then the rest."""
    while data:
        size = sizes.pop() if sizes else LIMIT // 2
        await client._ps.parse(data[:size])
        data = data[size:]


messages = st.tuples(
    st.integers(0, 3 * LIMIT), st.sampled_from([b"", b"NATS/1.0\r\nA: b\r\n\r\n", b"\xff\r\n"])
)


@given(st.lists(messages, max_size=10), st.lists(st.integers(1, LIMIT // 2), max_size=30))
def test_messages_arrive_whole_and_in_order_but_for_those_that_are_too_large(
    drawn: list[tuple[int, bytes]], sizes: list[int]
) -> None:
    heard: list[tuple[bytes, bytes]] = []

    async def on_message(subject: bytes, data: bytes) -> None:
        heard.append((subject, data))

    async def main() -> None:
        client = RoomClient(on_message, requires_tls=False)
        await subscribed(client)
        stream = b"".join(
            msg(b"s.%d" % number, b"x" * size, headers=headers)
            for number, (size, headers) in enumerate(drawn)
        )
        await read(client, stream, sizes)
        assert not client._ps.buf

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nats_client, "MAX_MESSAGE_BYTES", LIMIT)
        virtual_time_run(main())
    assert heard == [
        (b"s.%d" % number, b"x" * size)
        for number, (size, headers) in enumerate(drawn)
        if len(headers) + size <= LIMIT
    ]


async def subscribed(client: RoomClient) -> None:
    """As if there were a server that knows of the subscription."""
    client._flush_queue = asyncio.Queue()
    await client.subscribe("s.*")


def test_what_is_too_large_is_not_kept_while_it_is_read() -> None:
    async def ignore(subject: bytes, data: bytes) -> None:
        raise AssertionError("nobody is told")

    async def main() -> None:
        client = RoomClient(ignore, requires_tls=False)
        await subscribed(client)
        await client._ps.parse(b"MSG s.1 1 60000000\r\n")
        for _ in range(60_000_000 // 32_000):
            await client._ps.parse(bytes(32_000))
            assert len(client._ps.buf) <= nats_client.MAX_MESSAGE_BYTES + 32_000

    virtual_time_run(main())


@pytest.mark.parametrize("size", [0, 1, 10_000])
def test_others_get_their_turn_after_some_messages_or_bytes(size: int) -> None:
    since_turn, most = 0, 0

    async def on_message(subject: bytes, data: bytes) -> None:
        nonlocal since_turn, most
        since_turn += 1
        most = max(most, since_turn)

    async def bystander() -> None:
        nonlocal since_turn
        while True:
            since_turn = 0
            await asyncio.sleep(0)

    async def main() -> None:
        client = RoomClient(on_message, requires_tls=False)
        await subscribed(client)
        other = asyncio.create_task(bystander())
        await client._ps.parse(msg(b"s.1", bytes(size)) * 1_000)
        await client._ps.parse(msg(b"s.1", bytes(size), sid=7) * 1_000)  # nobody has subscribed
        other.cancel()

    virtual_time_run(main())
    assert most == min(MESSAGES_PER_TURN, -(-BATCH_BYTES // max(size, 1)))
