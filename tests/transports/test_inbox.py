"""What waits for a host, and what is dropped of it."""

import asyncio

import pytest

from rpcproto.testing import virtual_time_run
from rpcproto.transports import (
    BATCH_BYTES,
    BATCH_EVENTS,
    Connected,
    PacketReceived,
    ParticipantJoined,
    ParticipantLeft,
    TransportEvent,
    batches,
    inbox,
)
from rpcproto.transports.inbox import Inbox


async def read_all(box: Inbox) -> list[TransportEvent]:
    box.end()
    events: list[TransportEvent] = []
    while batch := await box.receive():
        events += batch
    return events


def packet(data: bytes, sender: str | None = None) -> PacketReceived:
    return PacketReceived(data, sender)


def test_events_are_read_in_order_then_comes_the_end() -> None:
    async def main() -> None:
        box = Inbox("bob")
        reading = asyncio.create_task(box.receive())
        await asyncio.sleep(0)
        box.put(Connected())
        assert await reading == [Connected()]
        box.put(packet(b"1"))
        box.put(packet(b"2"))
        assert len(box) == 2
        assert await box.receive() == [packet(b"1"), packet(b"2")]
        assert await read_all(box) == []

    virtual_time_run(main())


def test_who_waits_at_the_end_is_woken() -> None:
    async def main() -> None:
        box = Inbox("bob")
        reading = asyncio.create_task(read_all(box))
        await asyncio.sleep(1)
        box.wake()
        assert await reading == []

    virtual_time_run(main())


def test_each_batch_is_bounded_by_events_and_by_bytes() -> None:
    async def main() -> None:
        box = Inbox("bob")
        half = BATCH_BYTES // 2
        for event in [packet(b"")] * (BATCH_EVENTS + 1):
            box.put(event)
        for size in (half, half, 1, 2 * BATCH_BYTES, 1):
            box.put(packet(bytes(size)))
        sizes = []
        while len(box):
            sizes.append([len(event.data) for event in await box.receive()])  # type: ignore[union-attr]
        assert sizes == [[0] * BATCH_EVENTS, [0, half, half], [1], [2 * BATCH_BYTES], [1]]

    virtual_time_run(main())


def test_each_batch_gives_others_exactly_one_turn() -> None:
    async def main() -> None:
        box = Inbox("bob")
        turns = 0

        async def bystander() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(bystander())
        await asyncio.sleep(0)
        for _ in range(10 * BATCH_EVENTS):
            box.put(packet(b""))
        turns = 0
        for _ in range(10):
            assert len(await box.receive()) == BATCH_EVENTS
        assert turns == 10
        other.cancel()

    virtual_time_run(main())


def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    async def main() -> None:
        box = Inbox("bob")
        box.put(packet(b"1"))
        reading = asyncio.create_task(box.receive())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await box.receive() == [packet(b"1")]

    virtual_time_run(main())


def test_the_welcome_is_who_came_before_the_first_packet_and_the_rest_comes_later() -> None:
    async def main() -> None:
        box = Inbox("bob")
        alice, carol = ParticipantJoined("alice", "PA_a"), ParticipantJoined("carol", "PA_c")
        left, late = ParticipantLeft("alice", "PA_a"), ParticipantJoined("dave", "PA_d")
        assert box.take_welcome() == []
        for event in (alice, Connected(), carol, left, packet(b"1"), late):
            box.put(event)
        assert box.take_welcome() == [alice, carol, left]
        assert len(box) == 3
        assert await box.receive() == [Connected(), packet(b"1"), late]
        assert len(box) == 0

    virtual_time_run(main())


@pytest.mark.parametrize(
    ("limit", "packets"), [("MAX_WAITING_EVENTS", 3), ("MAX_WAITING_BYTES", 6)]
)
def test_it_is_full_by_number_or_by_bytes_until_something_is_read(
    limit: str, packets: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inbox, limit, packets)
    monkeypatch.setattr(batches, "BATCH_EVENTS", 2)
    size = 1 if limit == "MAX_WAITING_EVENTS" else 2

    async def main() -> None:
        box = Inbox("bob")
        while box.has_room():
            box.put(packet(b"x" * size))
        assert (len(box), box.is_full) == (3, True)
        assert not box.has_room()
        assert caplog.text.count("bob: 3 events wait to be read: dropping messages") == 1
        box.put(Connected())  # what must be reported is reported
        assert len(await box.receive()) == 2
        assert box.has_room()
        assert await read_all(box) == [packet(b"x" * size), Connected()]
        assert "bob: 2 messages were dropped" in caplog.text

    virtual_time_run(main())


def test_no_sender_can_use_up_the_room_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MAX_WAITING_EVENTS", 640)

    def fill(box: Inbox, sender: str, event: TransportEvent) -> int:
        count = 0
        while box.has_room(sender):
            box.put(event)
            count += 1
        return count

    async def main() -> None:
        box = Inbox("bob")
        held = [fill(box, f"m{number}", packet(b"", f"m{number}")) for number in range(4)]
        assert held == [320, 240, 10, 10]  # a half; up to seven eighths; then a sixty-fourth each
        assert fill(box, "m0", packet(b"", "m0")) == 0
        assert box.has_room("alice")
        assert box.has_room()  # where no sender is known, all is for everybody
        while len(box):
            await box.receive()
        # News of a participant count as well.
        assert fill(box, "m0", ParticipantJoined("m0")) == 320
        assert box.has_room("alice")
        assert len(await read_all(box)) == 320

    virtual_time_run(main())


def test_a_flood_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        box = Inbox("bob")
        for _ in range(3):
            box.put(packet(bytes(inbox.MAX_WAITING_BYTES)))
            assert not box.has_room()
            await box.receive()
            reading = asyncio.create_task(box.receive())
            await asyncio.sleep(0)
            reading.cancel()
        assert len(caplog.records) == 2

    virtual_time_run(main())


def test_all_can_be_dropped() -> None:
    async def main() -> None:
        box = Inbox("bob")
        box.put(packet(b"x" * inbox.MAX_WAITING_BYTES, "mallory"))
        assert not box.has_room()
        box.drop_all()
        assert box.has_room("mallory")
        assert await read_all(box) == []

    virtual_time_run(main())
