"""A byte stream over two pipes, such as standard input and output. Not on Windows. Needs the extra
`anyio`."""

import os
import stat
import sys
from typing import Final, final

from rpcproto.extras import extra

with extra("anyio", __name__):
    import anyio
    import anyio.lowlevel
    from anyio.abc import ByteStream

__all__ = ["PipeStream", "stdio"]


@final
class PipeStream(ByteStream):
    """A byte stream that reads one file descriptor and writes another, as a stream of anyio.

    The descriptors belong to the stream. While it is open, they are in non-blocking mode, which
    affects all processes that share them. Closing restores their previous mode. `send_eof` closes
    the write end.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        """Take two different descriptors of pipes, named pipes or sockets. For one socket, use
        `os.dup`.

        Raises:
            ValueError: A descriptor is a file, terminal or other device, or both are the same.
            NotImplementedError: The system is Windows.
        """
        if sys.platform == "win32":
            raise NotImplementedError("pipes cannot be waited for on Windows")
        if read_fd == write_fd:
            raise ValueError("a pipe stream needs two different file descriptors")
        modes = {fd: os.fstat(fd).st_mode for fd in (read_fd, write_fd)}
        for fd, mode in modes.items():
            if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
                raise ValueError(f"file descriptor {fd} is neither a pipe nor a socket")
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._was_blocking = {fd: os.get_blocking(fd) for fd in (read_fd, write_fd)}
        if stat.S_ISSOCK(modes[write_fd]) and os.path.sameopenfile(read_fd, write_fd):
            # What blocks is the socket behind both: the last one to be closed sees to it.
            self._was_blocking[write_fd] = False
        self._reading = anyio.ResourceGuard("reading from")
        self._writing = anyio.ResourceGuard("writing to")
        for fd in (read_fd, write_fd):
            os.set_blocking(fd, False)

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """Return at least one byte. See anyio's `ByteReceiveStream.receive`."""
        await anyio.lowlevel.checkpoint()
        with self._reading:
            while True:
                self._require_open(self._read_fd)
                try:
                    data = os.read(self._read_fd, max_bytes)
                except BlockingIOError:
                    await anyio.wait_readable(self._read_fd)
                except OSError as error:
                    raise anyio.BrokenResourceError from error
                else:
                    if not data:
                        raise anyio.EndOfStream
                    return data

    async def send(self, item: bytes) -> None:
        """Send all of `item`. If the call is cancelled, a part may have been sent."""
        await anyio.lowlevel.checkpoint()
        with self._writing, memoryview(item) as view:
            sent = 0
            while sent < len(view):
                self._require_open(self._write_fd)
                try:
                    sent += os.write(self._write_fd, view[sent:])
                except BlockingIOError:
                    await anyio.wait_writable(self._write_fd)
                except OSError as error:
                    raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        """Close the write end."""
        self._close(self._write_fd)
        await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close both ends."""
        self._close(self._write_fd)
        self._close(self._read_fd)
        await anyio.lowlevel.checkpoint()

    def _require_open(self, fd: int) -> None:
        if fd not in self._was_blocking:
            raise anyio.ClosedResourceError

    def _close(self, fd: int) -> None:
        if fd not in self._was_blocking:
            return
        was_blocking = self._was_blocking.pop(fd)
        anyio.notify_closing(fd)
        os.set_blocking(fd, was_blocking)
        os.close(fd)


_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2


def stdio() -> PipeStream:
    """Return standard input and output as a byte stream, and redirect them for the rest of the
    process.

    From then on, even after the stream is closed, the output of the process goes to standard error,
    and its standard input is empty. So only the stream writes to the original output. Call this
    function before you read from standard input.

    Raises:
        ValueError: Standard input or output is a file or a terminal. Nothing has changed.
        NotImplementedError: The system is Windows.
    """
    read_fd, write_fd = os.dup(_STDIN), os.dup(_STDOUT)
    try:
        stream = PipeStream(read_fd, write_fd)
    except BaseException:
        os.close(read_fd)
        os.close(write_fd)
        raise
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, _STDIN)
    os.close(nothing)
    os.dup2(_STDERR, _STDOUT)
    return stream
