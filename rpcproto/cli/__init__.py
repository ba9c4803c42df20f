"""The command `rpcproto`; needs the extra `cli`."""

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        from rpcproto.cli.commands import run  # noqa: PLC0415 (it may be missing)
    except KeyboardInterrupt:
        return 130  # as later on: see INTERRUPTED
    except ImportError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in ("anyio", "click", "rich"):
            raise
        print(
            f"rpcproto: the command line needs {missing}, which is not installed; "
            "get it with: pip install 'rpcproto[cli]'",
            file=sys.stderr,
        )
        return 1
    return run()
