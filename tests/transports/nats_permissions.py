"""A NATS server with the permissions that docs/transports.md recommends."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nats_server import NatsServer, running
from paths import ROOT


def documented_configuration() -> str:
    """The configuration in the documents, which has users for alice and for bob."""
    text = (ROOT / "docs" / "transports.md").read_text("utf-8")
    [config] = re.findall(r"```text\n(authorization .*?)```", text, re.DOTALL)
    assert isinstance(config, str)
    return config


def with_users(*names: str) -> str:
    """The same with more users, each with what bob has."""
    config = documented_configuration()
    [bob] = re.findall(r"    \{\n      user: bob.*?\n    \}\n", config, re.DOTALL)
    assert isinstance(bob, str)
    users = "".join(bob.replace("bob", name) for name in names)
    return config.replace(bob, bob + users)


def credentials(name: str) -> dict[str, str]:
    """How somebody is let in."""
    return {"user": name, "password": f"the secret of {name}"}


@contextmanager
def guarded_server(folder: Path, *names: str) -> Iterator[NatsServer]:
    """A running server for alice, bob and some more."""
    path = folder / "nats.conf"
    path.write_text(with_users(*names), "utf-8")
    with running("-c", str(path)) as server:
        yield server
