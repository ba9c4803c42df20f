"""What waits for a host, and what is dropped of it."""

import asyncio

import pytest

from rpcproto.testing import virtual_time_run
from rpcproto.transports import Connected, PacketReceived, TransportEvent, inbox
from rpcproto.transports.inbox import Inbox


async def read_all(box: Inbox) -> list[TransportEvent]:
    box.end()
    events: list[TransportEvent] = []
    while batch := await box.receive():
        events += batch
    return events


def test_events_are_read_in_order_then_comes_the_end() -> None:
    async def main() -> None:
        box = Inbox("bob")
        reading = asyncio.create_task(box.receive())
        await asyncio.sleep(0)
        box.put(Connected())
        assert await reading == [Connected()]
        box.put(PacketReceived(b"1"))
        box.put(PacketReceived(b"2"))
        assert (len(box), box.pop()) == (2, PacketReceived(b"1"))
        assert await read_all(box) == [PacketReceived(b"2")]

    virtual_time_run(main())


def test_who_waits_at_the_end_is_woken() -> None:
    async def main() -> None:
        box = Inbox("bob")
        reading = asyncio.create_task(read_all(box))
        await asyncio.sleep(1)
        box.wake()
        assert await reading == []

    virtual_time_run(main())


@pytest.mark.parametrize(
    ("limit", "packets"), [("MAX_WAITING_EVENTS", 3), ("MAX_WAITING_BYTES", 6)]
)
def test_it_is_full_by_number_or_by_bytes_until_something_is_read(
    limit: str, packets: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inbox, limit, packets)
    size = 1 if limit == "MAX_WAITING_EVENTS" else 2

    async def main() -> None:
        box = Inbox("bob")
        while box.has_room():
            box.put(PacketReceived(b"x" * size))
        assert (len(box), box.is_full) == (3, True)
        assert not box.has_room()
        assert caplog.text.count("bob: nobody reads, and 3 events wait") == 1
        box.put(Connected())  # what must be told is told
        box.pop()
        box.pop()
        assert box.has_room()
        assert await read_all(box) == [PacketReceived(b"x" * size), Connected()]
        assert "bob: 2 messages were dropped" in caplog.text

    virtual_time_run(main())


def test_all_can_be_dropped() -> None:
    async def main() -> None:
        box = Inbox("bob")
        box.put(PacketReceived(b"x" * inbox.MAX_WAITING_BYTES))
        assert not box.has_room()
        box.drop_all()
        assert box.has_room()
        assert await read_all(box) == []

    virtual_time_run(main())
