"""All scenarios of the kit."""

from rpcproto.testing.hosts.scenarios_calls import CALLS
from rpcproto.testing.hosts.scenarios_connection import CONNECTION
from rpcproto.testing.hosts.scenarios_handlers import HANDLERS
from rpcproto.testing.hosts.scenarios_participants import PARTICIPANTS
from rpcproto.testing.hosts.scenarios_sending import SENDING
from rpcproto.testing.hosts.steps import Scenario


def scenarios(*, slow_handlers: bool = True, config: bool = True) -> tuple[Scenario, ...]:
    """Return the scenarios that every host must pass. A minor version can add some.

    Pass `slow_handlers=False` if the host supports only plain functions as handlers, and
    `config=False` if it can't set a config. For pytest:
    `@pytest.mark.parametrize("scenario", scenarios(), ids=str)`.
    """
    return tuple(
        scenario
        for scenario in (*CALLS, *HANDLERS, *SENDING, *CONNECTION, *PARTICIPANTS)
        if (slow_handlers or not scenario.has_slow_handlers) and (config or not scenario.has_config)
    )
