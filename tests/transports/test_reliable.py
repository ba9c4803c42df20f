"""Numbers of a reliable channel: what is kept to be sent again, and what has arrived before."""

from hypothesis import given
from hypothesis import strategies as st

from rpcproto.transports.reliable import WINDOW, ReliableReceiver, ReliableSender


def packet(sequence: int) -> bytes:
    return b"%d" % sequence


def sent(count: int, **bounds: int) -> ReliableSender:
    sender = ReliableSender(**bounds)
    for sequence in range(1, count + 1):
        assert sender.number(packet, 100) == packet(sequence)
    return sender


# the sender


def test_packets_are_numbered_from_one() -> None:
    assert ReliableSender().last_sequence == 0
    assert sent(3).last_sequence == 3


def test_a_packet_that_is_too_large_uses_up_no_number_and_is_not_kept() -> None:
    sender = sent(1)
    assert sender.number(lambda _: b"12345", 4) is None
    assert (sender.last_sequence, sender.kept_packets) == (1, 1)
    assert sender.number(lambda _: b"1234", 4) == b"1234"
    assert sender.last_sequence == 2


def test_what_the_other_side_has_not_seen_is_sent_again_in_order() -> None:
    sender = sent(5)
    assert sender.seen(3) == (b"4", b"5")
    # It may be lost once more.
    assert sender.seen(3) == (b"4", b"5")
    assert sender.seen(0) == (b"4", b"5")


def test_what_the_other_side_has_seen_is_forgotten() -> None:
    sender = sent(5)
    sender.seen(3)
    assert (sender.kept_packets, sender.kept_bytes) == (2, 2)
    assert sender.seen(5) == ()
    assert sender.kept_bytes == 0


def test_a_number_that_was_never_used_counts_as_the_newest() -> None:
    sender = sent(5)
    assert sender.seen(2**32 - 1) == ()
    assert sender.number(packet, 100) == b"6"
    assert sender.seen(5) == (b"6",)


def test_so_many_packets_are_kept() -> None:
    sender = sent(5, max_packets=3)
    assert sender.seen(0) == (b"3", b"4", b"5")
    assert sender.kept_bytes == 3


def test_so_many_bytes_are_kept_but_always_the_newest_packet() -> None:
    sender = sent(5, max_bytes=2)
    assert sender.seen(0) == (b"4", b"5")
    assert sender.number(lambda _: bytes(10), 100) == bytes(10)
    assert sender.seen(0) == (bytes(10),)


def test_it_is_known_whether_something_is_missing_between_the_seen_and_the_kept() -> None:
    sender = sent(5, max_packets=3)
    assert [sender.has_forgotten(sequence) for sequence in range(7)] == [True] * 2 + [False] * 5
    sender.seen(5)
    assert [sender.has_forgotten(sequence) for sequence in (4, 5, 6)] == [True, False, False]


def test_for_another_session_numbers_begin_again_with_nothing_kept() -> None:
    sender = sent(5)
    sender.restart()
    assert (sender.last_sequence, sender.kept_packets, sender.kept_bytes) == (0, 0, 0)
    assert sender.number(packet, 100) == b"1"
    assert sender.seen(0) == (b"1",)


# the receiver


def test_every_number_of_every_sender_is_new_once() -> None:
    receiver = ReliableReceiver()
    assert [receiver.is_new("a", sequence) for sequence in (1, 2, 2, 1, 3)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert receiver.is_new("b", 1)
    assert receiver.last_sequences() == {"a": 3, "b": 1}


def test_a_number_that_was_passed_by_may_still_come() -> None:
    receiver = ReliableReceiver()
    assert receiver.is_new("a", WINDOW + 1)
    assert receiver.is_new("a", 2)
    assert not receiver.is_new("a", 2)
    assert not receiver.is_new("a", 1)  # below the window
    assert receiver.last_sequences() == {"a": WINDOW + 1}


def test_what_has_no_number_or_no_sender_is_always_new() -> None:
    receiver = ReliableReceiver()
    for sender, sequence in (("a", 0), ("", 1)):
        assert receiver.is_new(sender, sequence)
        assert receiver.is_new(sender, sequence)
    assert receiver.last_sequences() == {}


def test_of_too_many_senders_the_one_not_heard_for_longest_is_forgotten() -> None:
    receiver = ReliableReceiver(max_senders=2)
    for sender, sequence in (("a", 1), ("b", 1), ("a", 2), ("c", 1)):
        assert receiver.is_new(sender, sequence)
    assert receiver.last_sequences() == {"a": 2, "c": 1}


# both, over a channel that loses what is on its way


@given(st.lists(st.sampled_from(["send", "deliver", "resume"]), max_size=60), st.integers(0, 10))
def test_over_any_losses_everything_arrives_once_and_in_order(
    steps: list[str], on_the_way: int
) -> None:
    sender, receiver = ReliableSender(), ReliableReceiver()
    channel: list[int] = []
    arrived: list[int] = []

    def deliver() -> None:
        sequence = channel.pop(0)
        if receiver.is_new("a", sequence):
            arrived.append(sequence)

    def resume() -> None:
        del channel[on_the_way:]  # some of it arrives although it is sent again
        seen = receiver.last_sequences().get("a", 0)
        channel.extend(int(data) for data in sender.seen(seen))

    for step in [*steps, "resume"]:
        if step == "send":
            data = sender.number(packet, 100)
            assert data is not None
            channel.append(int(data))
        elif step == "resume":
            resume()
        elif channel:
            deliver()
    while channel:
        deliver()
    assert arrived == list(range(1, sender.last_sequence + 1))
