"""The kit for tests: ids that count, and virtual time."""

import asyncio
import socket
import threading
import uuid

import pytest

from rpcproto.testing import Deadlock, counting_ids, virtual_time_run

DAY = 86_400.0

# ids


def test_counting_ids_are_uuids_of_version_4_that_count() -> None:
    new_id = counting_ids("a")
    ids = [new_id() for _ in range(11)]
    assert ids[0] == "a0000000-0000-4000-8000-000000000001"
    assert ids[10] == "a0000000-0000-4000-8000-000000000011"
    for text in ids:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


def test_sources_of_ids_do_not_disturb_each_other() -> None:
    first, second, other = counting_ids("a"), counting_ids("a"), counting_ids("0bad")
    assert first() == second()
    assert other() == "0bad0000-0000-4000-8000-000000000001"
    assert first() != other()


@pytest.mark.parametrize("prefix", ["", "A", "g", "123456789", "a-"])
def test_a_prefix_is_hexadecimal(prefix: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        counting_ids(prefix)


# virtual time


def now() -> float:
    return asyncio.get_running_loop().time()


def test_virtual_time_starts_at_0_and_jumps_to_the_next_timer() -> None:
    async def main() -> list[float]:
        seen = [now()]
        await asyncio.sleep(30 * DAY)
        seen.append(now())
        await asyncio.gather(asyncio.sleep(3.0), asyncio.sleep(1.0))
        return [*seen, now()]

    assert virtual_time_run(main()) == [0.0, 30 * DAY, 30 * DAY + 3.0]


def test_virtual_time_goes_on_for_centuries() -> None:
    async def main() -> float:
        for _ in range(100):
            await asyncio.sleep(1000 * DAY)
            await asyncio.sleep(1.0)
        return now()

    assert virtual_time_run(main()) == pytest.approx(100_000 * DAY + 100.0, abs=0.001)


def test_virtual_time_stands_still_while_anything_is_ready() -> None:
    async def main() -> None:
        timer = asyncio.create_task(asyncio.sleep(1e-9))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not timer.done()
        assert now() == 0.0
        await timer

    virtual_time_run(main())


def test_what_the_program_raises_comes_out() -> None:
    async def main() -> None:
        await asyncio.sleep(1.0)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        virtual_time_run(main())


def test_waiting_for_nothing_is_told_and_not_waited_for() -> None:
    cleaned_up: list[float] = []

    async def main() -> None:
        await asyncio.sleep(1.0)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(1.0)
            cleaned_up.append(now())

    with pytest.raises(Deadlock, match="a thread or a real socket cannot"):
        virtual_time_run(main())
    assert cleaned_up == [2.0]


def test_sockets_are_refused() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            with pytest.raises(RuntimeError, match="a real socket or pipe cannot advance"):
                await asyncio.get_running_loop().sock_recv(ours, 1)

    virtual_time_run(main())


def test_a_thread_that_is_awaited_is_refused_and_told_by_name() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="a thread cannot advance virtual time"):
            await asyncio.to_thread(now)

    virtual_time_run(main())


def test_another_thread_may_wake_the_loop() -> None:
    async def main() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        thread = threading.Thread(
            target=asyncio.get_running_loop().call_soon_threadsafe, args=(future.set_result, "hi")
        )
        thread.start()
        thread.join()
        return await future

    assert virtual_time_run(main()) == "hi"
