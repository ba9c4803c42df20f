"""The command `rpcproto completion`: what a shell needs to complete commands and options."""

import os
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from rpcproto.cli.output import OutputError, put_as_it_is, say

VARIABLE: Final = "_RPCPROTO_COMPLETE"
"""The environment variable by which a shell asks for completions."""
SHELLS: Final = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", is_flag=True, help="Write the script to where the shell looks for it.")
@click.pass_context
def completion(ctx: click.Context, shell: str | None, install: bool) -> None:
    """Print or install the completion script of a shell.

    SHELL is bash (4.4 or later), zsh or fish; the default is the shell in the variable SHELL.

    \b
      rpcproto completion --install
      eval "$(rpcproto completion bash)"

    --install writes a file below the home directory and prints its path. Completion then works in
    new shells; in bash, it needs the package bash-completion.
    """
    shell = shell or Path(os.environ.get("SHELL", "")).name
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise click.UsageError(f"name a shell: {', '.join(SHELLS)}", ctx)
    script = kind(ctx.find_root().command, {}, "rpcproto", VARIABLE).source()
    if not install:
        put_as_it_is(script)
        return
    try:
        path = _place(shell)
    except RuntimeError as error:
        raise click.UsageError(f"cannot find the home directory: {error}", ctx) from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script + "\n", "utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    say(f"installed {path}; it takes effect in new shells")
    if shell == "zsh":
        say(f"for zsh, ~/.zshrc must have this line before compinit: fpath+=({path.parent})")


def _place(shell: str) -> Path:
    """Where a shell looks for the completions of a command."""
    home = Path.home()

    def base(variable: str, otherwise: str) -> Path:
        return Path(os.environ.get(variable) or home / otherwise)

    if shell == "bash":
        data = base("XDG_DATA_HOME", ".local/share") / "bash-completion"
        return base("BASH_COMPLETION_USER_DIR", str(data)) / "completions" / "rpcproto"
    if shell == "fish":
        return base("XDG_CONFIG_HOME", ".config") / "fish" / "completions" / "rpcproto.fish"
    return home / ".zfunc" / "_rpcproto"
