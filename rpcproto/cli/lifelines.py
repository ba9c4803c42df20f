"""A sequence diagram in the terminal: time runs down, each participant has a lifeline."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from rich.text import Text

MAX_WIDTH: Final = 100
"""Wider than this a diagram is harder to read, in columns."""
_TIME_WIDTH: Final = 12
_LINE_STYLE: Final = "bright_black"


class Arrow(NamedTuple):
    """A packet on its way; `at` is when it left, in seconds. One that got lost ends in a cross.

    `detail` has a line of its own, under the arrow.
    """

    at: float
    sender: str
    receiver: str
    label: str
    style: str
    arrives: bool = True
    detail: str = ""


class Note(NamedTuple):
    """Something that happens at one participant, at `at` seconds."""

    at: float
    participant: str
    text: str
    style: str


Row: TypeAlias = Arrow | Note


class Glyphs(NamedTuple):
    """What a diagram is drawn with, one column each."""

    life: str
    dash: str
    right: str
    left: str
    starts_right: str
    starts_left: str
    lost: str
    dot: str


BOXES: Final = Glyphs("│", "─", "▶", "◀", "├", "┤", "✗", "●")
ASCII: Final = Glyphs("|", "-", ">", "<", "|", "|", "x", "*")


def draw(
    participants: Sequence[str], rows: Sequence[Row], width: int, glyphs: Glyphs
) -> Iterator[Text]:
    """The diagram, line by line; participants from left to right, in `width` columns."""
    diagram = _Diagram(participants, width, glyphs)
    yield diagram.heads()
    for row in rows:
        if isinstance(row, Arrow):
            yield from diagram.arrow(row)
        else:
            yield from diagram.note(row)


class _Diagram:
    def __init__(self, participants: Sequence[str], width: int, glyphs: Glyphs) -> None:
        self._glyphs = glyphs
        self._width = width
        # The last one needs room for its notes, but less than lies between two lifelines.
        gap = int((width - _TIME_WIDTH) / (len(participants) - 0.3))
        self._columns = {name: _TIME_WIDTH + gap * i for i, name in enumerate(participants)}

    def heads(self) -> Text:
        line = _Line(self._width)
        for name, column in self._columns.items():
            line.put(column, name, "bold")
        return line.text()

    def arrow(self, arrow: Arrow) -> Iterator[Text]:
        glyphs = self._glyphs
        start, end = self._columns[arrow.sender], self._columns[arrow.receiver]
        left, right = min(start, end), max(start, end)
        line = self._lifelines(arrow.at)
        line.put(left + 1, glyphs.dash * (right - left - 1), arrow.style)
        _put_between(line, left, right, arrow.label, arrow.style)
        rightwards = start < end
        line.put(start, glyphs.starts_right if rightwards else glyphs.starts_left, _LINE_STYLE)
        head = (glyphs.right if rightwards else glyphs.left) if arrow.arrives else glyphs.lost
        line.put(end - 1 if rightwards else end + 1, head, arrow.style)
        yield line.text()
        if arrow.detail:
            line = self._lifelines(None)
            _put_between(line, left, right, arrow.detail, arrow.style)
            yield line.text()

    def note(self, note: Note) -> Iterator[Text]:
        column = self._columns[note.participant]
        ends = [other for other in self._columns.values() if other > column]
        room = min(ends, default=self._width) - column - 3
        for number, part in enumerate(textwrap.wrap(note.text, room) or [""]):
            line = self._lifelines(None if number else note.at)
            line.put(column, self._glyphs.life if number else self._glyphs.dot, note.style)
            line.put(column + 2, part, note.style)
            yield line.text()

    def _lifelines(self, at: float | None) -> "_Line":
        line = _Line(self._width)
        if at is not None:
            line.put(0, f"{at:8.3f} s", _LINE_STYLE)
        for column in self._columns.values():
            line.put(column, self._glyphs.life, _LINE_STYLE)
        return line


def _put_between(line: "_Line", left: int, right: int, text: str, style: str) -> None:
    label = f" {text[: right - left - 5]} "
    line.put((left + right + 1 - len(label)) // 2, label, style)


class _Line:
    """Columns that can be written over."""

    def __init__(self, width: int) -> None:
        self._cells = [(" ", "")] * width

    def put(self, column: int, text: str, style: str) -> None:
        for offset, character in enumerate(text[: len(self._cells) - column]):
            # What others have made may hold orders to the terminal.
            shown = character if character.isprintable() else "?"
            self._cells[column + offset] = (shown, style)

    def text(self) -> Text:
        text = Text()
        for character, style in self._cells:
            text.append(character, style)
        text.rstrip()
        return text
