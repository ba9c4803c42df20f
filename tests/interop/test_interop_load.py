"""Many calls between official clients and ours: none is lost, and what each costs."""

from collections.abc import Callable

import pytest

from interop.clients import Place
from interop.load import LOAD_PAIRS, load, load_table
from interop.pairings import TEST_SERVER, Run
from rpcproto.conformance.room_server import RoomServer

pytestmark = pytest.mark.interop_load


@pytest.mark.parametrize("kinds", LOAD_PAIRS, ids="-".join)
def test_no_call_of_a_thousand_is_lost(
    kinds: tuple[str, str],
    run: Run,
    server: RoomServer,
    place: Place,
    record_property: Callable[[str, object], None],
) -> None:
    async def main() -> None:
        cells = [
            (load_table(TEST_SERVER), row, " → ".join(kinds), text)
            for row, text in (await load(kinds, place, server)).items()
        ]
        record_property("cells", cells)

    run(main())
