"""The files that `rpcproto conform` reads and writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

import rpcproto
from rpcproto.cli.output import read_file
from rpcproto.conformance import page, reports
from rpcproto.conformance.results import Run

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(dir_okay=False, path_type=Path)


class FileError(Exception):
    """A file that cannot be read or written; the text says which, and why."""


def file_options(command: F) -> F:
    """Add the options of `Files` to a command."""
    for option in (
        click.option(
            "--baseline",
            type=_FILE,
            metavar="FILE",
            help="A file of known failures, which do not count: a case and a reason on each line. "
            "A listed case that passes does count.",
        ),
        click.option(
            "--journal",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help="Write a journal of each failed case, for `rpcproto trace`.",
        ),
        click.option("--html", type=_FILE, metavar="FILE", help="Write a page with all diagrams."),
        click.option("--junit", type=_FILE, metavar="FILE", help="Write a report for CI systems."),
        click.option("--json", type=_FILE, metavar="FILE", help="Write a report for programs."),
    ):
        command = option(command)
    return command


class Files(NamedTuple):
    """What was asked for. All methods raise FileError."""

    json: Path | None = None
    junit: Path | None = None
    html: Path | None = None
    journal: Path | None = None
    baseline: Path | None = None

    def known_failures(self) -> dict[str, str] | None:
        """The reasons of known failures by case; None if no list was given."""
        if self.baseline is None:
            return None
        try:
            return dict(reports.read_baseline(read_file(self.baseline).decode()))
        except click.UsageError as error:
            raise FileError(f"cannot read {error.message}") from None
        except ValueError as error:
            raise FileError(f"{self.baseline}: {error}") from None

    def write(self, run: Run, *, strict: bool, command: str, title: str) -> None:
        """Write the reports."""
        version = rpcproto.__version__
        if self.json is not None:
            text = reports.as_json(run, strict=strict, version=version, command=command)
            _write(self.json, text)
        if self.junit is not None:
            _write(self.junit, reports.as_junit(run, strict=strict))
        if self.html is not None:
            _write(self.html, page.as_html(run, title=title, version=version, command=command))
        if self.journal is not None:
            failed = [result for result in run.results if result.counts(strict)]
            try:
                reports.write_journals(self.journal, failed)
            except OSError as error:
                raise FileError(f"cannot write to {self.journal}: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8", errors="replace")
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from None
