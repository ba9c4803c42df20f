"""Sequence diagrams, as text and as SVG: time runs down, each participant has a lifeline.

Both are made from one layout, which counts in columns and lines of a terminal.
"""

import textwrap
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple, TypeAlias, final
from xml.sax.saxutils import escape

MAX_WIDTH: Final = 100
"""The maximum readable width, in columns."""
WIDTH_EACH: Final = 30
"""A readable width for each participant, in columns."""
_TIME_WIDTH: Final = 12
_NOTE_ROOM: Final = 14
"""A note with less room than this goes over lifelines, in columns."""
_LABEL_ROOM: Final = 10
"""If neighbouring lifelines leave at least this room, a label is cut rather than drawn over
others, in columns."""
_CUT: Final = "…"
"""The end of a text that did not fit."""


class Style(Enum):
    """The role of a part of a diagram, which a colour can show."""

    PLAIN = "plain"
    HEAD = "head"
    LINE = "line"
    REQUEST = "request"
    ACK = "ack"
    RESPONSE = "response"
    ERROR = "error"
    STREAM = "stream"
    GOOD = "good"
    BAD = "bad"
    NOTABLE = "notable"


@final
class Arrow(NamedTuple):
    """A packet. `at` is the instant at which it was sent, in seconds. The arrow of a lost packet
    ends in a cross.

    `detail` is a text for the line below the arrow.
    """

    at: float
    sender: str
    receiver: str
    label: str
    style: Style = Style.PLAIN
    arrives: bool = True
    detail: str = ""


@final
class Note(NamedTuple):
    """An event of one participant. `at` is its instant, in seconds."""

    at: float
    participant: str
    text: str
    style: Style = Style.PLAIN


Row: TypeAlias = Arrow | Note
"""A row of a diagram."""


@final
class Glyphs(NamedTuple):
    """The characters of a diagram in a terminal, one column each."""

    life: str
    dash: str
    right: str
    left: str
    starts_right: str
    starts_left: str
    lost: str
    dot: str
    cut: str
    """The end of a text that did not fit."""


BOXES: Final = Glyphs("│", "─", "▶", "◀", "├", "┤", "✗", "●", _CUT)
"""Box-drawing characters."""
ASCII: Final = Glyphs("|", "-", ">", "<", "|", "|", "x", "*", "~")
"""ASCII characters."""


class Text(NamedTuple):
    """A text that begins in `column`."""

    line: int
    column: int
    text: str
    style: Style


class Shaft(NamedTuple):
    """An arrow from one column to another, with a label in the middle of it."""

    line: int
    start: int
    end: int
    label: str
    style: Style
    arrives: bool


class Detail(NamedTuple):
    """A text in the middle between two columns."""

    line: int
    left: int
    right: int
    text: str
    style: Style


class Dot(NamedTuple):
    """A point on a lifeline."""

    line: int
    column: int
    style: Style


Item: TypeAlias = Text | Shaft | Detail | Dot


@final
class Layout(NamedTuple):
    """The positions in a diagram of `height` lines and `width` columns, with lifelines in
    `columns`."""

    width: int
    height: int
    columns: tuple[int, ...]
    items: tuple[Item, ...]


def lay_out(participants: Sequence[str], rows: Sequence[Row], width: int) -> Layout:
    """Return the layout of a diagram, with the participants from left to right."""
    # The last one needs room for its notes, but less than lies between two lifelines.
    gap = int((width - _TIME_WIDTH) / max(len(participants) - 0.3, 0.7))
    columns = {name: _TIME_WIDTH + gap * i for i, name in enumerate(participants)}
    items: list[Item] = []
    for name, column in columns.items():
        items.append(Text(0, column, _fit(printable(name), max(gap - 1, 1)), Style.HEAD))
    line = 1
    for row in rows:
        items.append(Text(line, 0, f"{row.at:8.3f} s", Style.LINE))
        if isinstance(row, Arrow):
            more = _arrow(row, line, columns, gap, width)
        else:
            column = columns[row.participant]
            end = width if row.participant == participants[-1] else column + gap
            more = _note(row, line, column, end - column - 3, width - column - 3)
        items.extend(more)
        line = more[-1].line + 1
    return Layout(width, line, tuple(columns.values()), tuple(items))


def _fit(text: str, room: int) -> str:
    """The text in at most so many columns; the end of one that does not fit says so."""
    return text if len(text) <= room else text[: max(room - 1, 0)] + _CUT[:room]


def _arrow(arrow: Arrow, line: int, columns: dict[str, int], gap: int, width: int) -> list[Item]:
    start, end = columns[arrow.sender], columns[arrow.receiver]
    left, right = min(start, end), max(start, end)
    room = max(right - left - 5, 0)
    label, detail = printable(arrow.label), printable(arrow.detail)
    are_close = gap - 5 < _LABEL_ROOM

    def crosses(place: Text) -> bool:
        return any(0 <= one - place.column < len(place.text) for one in columns.values())

    def beside(text: str, line: int) -> list[Item]:
        """A text that does not fit between the ends goes beside them. It goes over other lifelines,
        as if it were about those, only where they are too close together for most labels."""
        if len(text) <= room:
            return []
        places: list[Text] = []
        if right + 3 + len(text) <= width:
            places.append(Text(line, right + 2, f"{text} ", arrow.style))
        if left - 2 - len(text) >= _TIME_WIDTH:
            places.append(Text(line, left - 2 - len(text), f" {text} ", arrow.style))
        free = [one for one in places if not crosses(one)]
        return [*(free or places if are_close else free)[:1]]

    elsewhere = beside(label, line)
    shown = "" if elsewhere else _fit(label, room)
    items: list[Item] = [Shaft(line, start, end, shown, arrow.style, arrow.arrives), *elsewhere]
    if detail:
        between = Detail(line + 1, left, right, _fit(detail, room), arrow.style)
        items.extend(beside(detail, line + 1) or [between])
    return items


def _note(note: Note, line: int, column: int, room: int, right: int) -> list[Item]:
    """A note, which has so much room before the next lifeline, and so much before the right end."""
    left = column - _TIME_WIDTH - 1
    is_left = max(room, right) < min(_NOTE_ROOM, left)
    after = " " * (room < _NOTE_ROOM)  # so that no lifeline touches it
    if room < _NOTE_ROOM:
        room = left if is_left else max(room, right)
    items: list[Item] = [Dot(line, column, note.style)]
    parts = textwrap.wrap(note.text, max(room, 1)) or [""]
    for number, part in enumerate(parts):
        at = column - 1 - len(part) if is_left else column + 2
        items.append(Text(line + number, at, printable(part) + after, note.style))
    return items


def printable(text: str) -> str:
    """The text without what would be an order to a terminal; others may have made it."""
    return "".join(character if character.isprintable() else "?" for character in text)


# as text

Span: TypeAlias = tuple[str, Style]
"""Part of a line."""


def spans(layout: Layout, glyphs: Glyphs = BOXES) -> Iterator[list[Span]]:
    """Return the lines of a diagram, each in parts of one style."""
    lines = [_Line(layout.width) for _ in range(layout.height)]
    for line in lines[1:]:
        for column in layout.columns:
            line.put(column, glyphs.life, Style.LINE)
    for item in layout.items:
        line = lines[item.line]
        match item:
            case Text():
                line.put(item.column, _marked(item.text, glyphs), item.style)
            case Dot():
                line.put(item.column, glyphs.dot, item.style)
            case Detail():
                text = _marked(item.text, glyphs)
                line.put_between(item.left, item.right, text, item.style)
            case Shaft():
                _draw_shaft(line, item, glyphs)
    for line in lines:
        yield line.spans()


def as_text(layout: Layout, glyphs: Glyphs = BOXES) -> str:
    """Return the diagram as text without colours. Every line ends with a newline."""
    return "".join("".join(text for text, _ in line) + "\n" for line in spans(layout, glyphs))


def _draw_shaft(line: "_Line", shaft: Shaft, glyphs: Glyphs) -> None:
    rightwards = shaft.start < shaft.end
    left, right = sorted((shaft.start, shaft.end))
    line.put(left + 1, glyphs.dash * (right - left - 1), shaft.style)
    if shaft.label:
        line.put_between(left, right, _marked(shaft.label, glyphs), shaft.style)
    line.put(shaft.start, glyphs.starts_right if rightwards else glyphs.starts_left, Style.LINE)
    head = (glyphs.right if rightwards else glyphs.left) if shaft.arrives else glyphs.lost
    line.put(shaft.end - 1 if rightwards else shaft.end + 1, head, shaft.style)


def _marked(text: str, glyphs: Glyphs) -> str:
    """The text, and what these glyphs have at the end of one that was cut."""
    return text.removesuffix(_CUT) + glyphs.cut if text.endswith(_CUT) else text


class _Line:
    """Columns that can be written over."""

    def __init__(self, width: int) -> None:
        self._cells: list[Span] = [(" ", Style.PLAIN)] * width

    def put(self, column: int, text: str, style: Style) -> None:
        for offset, character in enumerate(text[: len(self._cells) - column]):
            self._cells[column + offset] = (character, style)

    def put_between(self, left: int, right: int, text: str, style: Style) -> None:
        label = f" {text} "
        self.put((left + right + 1 - len(label)) // 2, label, style)

    def spans(self) -> list[Span]:
        cells = list(self._cells)
        while cells and cells[-1][0] == " ":
            cells.pop()
        spans: list[Span] = []
        for character, style in cells:
            if spans and spans[-1][1] is style:
                spans[-1] = (spans[-1][0] + character, style)
            else:
                spans.append((character, style))
        return spans


# as SVG

_COLUMN: Final = 8
_LINE: Final = 23
_MARGIN: Final = 14
"""In pixels."""
_LIGHT: Final = {
    "plain": "#1f2328", "head": "#1f2328", "line": "#6e7781", "request": "#0550ae",
    "ack": "#59636e", "response": "#1a7f37", "error": "#cf222e", "stream": "#8250df",
    "good": "#1a7f37", "bad": "#cf222e", "notable": "#9a6700",
}  # fmt: skip
_DARK: Final = {
    "plain": "#f0f6fc", "head": "#f0f6fc", "line": "#7d8590", "request": "#79c0ff",
    "ack": "#9198a1", "response": "#56d364", "error": "#ff7b72", "stream": "#d2a8ff",
    "good": "#56d364", "bad": "#ff7b72", "notable": "#e3b341",
}  # fmt: skip


def as_svg(layout: Layout, title: str, description: str, *, inline: bool = False) -> str:
    """Return the diagram as a self-contained SVG picture, with colours for light and dark pages,
    and with its content as text for screen readers.

    With `inline`, return a picture for an HTML page that contains `svg_style()` once. It then has
    no title and no description for screen readers.
    """
    width = layout.width * _COLUMN + 2 * _MARGIN
    height = layout.height * _LINE + 2 * _MARGIN
    description = "\n".join(escape(printable(line)) for line in description.splitlines())
    size = f'width="{width}" height="{height}"'
    alone = [
        ' role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(printable(title))}</title>',
        f'<desc id="desc">{description}</desc>',
        f"<style>\n{svg_style()}\n</style>",
    ]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size}',
        *([">"] if inline else alone),
        f'<rect class="paper" {size} rx="6"/>',
        *(_life(column, layout.height) for column in layout.columns),
        *(_element(item, layout.columns) for item in layout.items),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def svg_style() -> str:
    """Return the CSS for SVG diagrams in an HTML page."""
    return "\n".join(_css())


def _css() -> Iterator[str]:
    yield "text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif;"
    yield "  fill: currentColor; white-space: pre; font-variant-numeric: tabular-nums;"
    yield "  stroke: #ffffff; stroke-width: 3px; paint-order: stroke }"
    yield "path { stroke: currentColor; stroke-width: 1.5; fill: none }"
    yield "circle { fill: currentColor }"
    yield ".middle { text-anchor: middle }"
    yield ".head, .good, .bad { font-weight: 600 }"
    yield "path.line { stroke-width: 1 }"
    yield ".paper { fill: #ffffff }"
    yield from (f".{name} {{ color: {colour} }}" for name, colour in _LIGHT.items())
    yield "@media (prefers-color-scheme: dark) {"
    yield "  .paper { fill: #0d1117 }"
    yield "  text { stroke: #0d1117 }"
    yield from (f"  .{name} {{ color: {colour} }}" for name, colour in _DARK.items())
    yield "}"


def _x(column: int) -> int:
    return _MARGIN + column * _COLUMN


def _y(line: int) -> int:
    """Of the line that a text stands on, or of an arrow."""
    return _MARGIN + line * _LINE + 15


def _life(column: int, height: int) -> str:
    return f'<path class="line" d="M{_x(column)} {_y(0) + 7}V{_y(height - 1) + 7}"/>'


def _element(item: Item, columns: Sequence[int]) -> str:
    match item:
        case Text():
            return _text(_x(item.column), _y(item.line), item.text, item.style.value)
        case Dot():
            x, y = _x(item.column), _y(item.line) - 4
            return f'<circle class="{item.style.value}" cx="{x}" cy="{y}" r="4"/>'
        case Detail():
            middle = _middle(item.left, item.right, item.text, columns)
            return _text(middle, _y(item.line) - 4, item.text, f"middle {item.style.value}")
    return _shaft(item, columns)


def _middle(start: int, end: int, text: str, columns: Sequence[int]) -> int:
    """Where the middle of a label is: between two lifelines, if it fits there."""
    first, last = sorted((bisect_left(columns, start), bisect_left(columns, end)))
    if last - first > 1:
        at = (first + last - 1) // 2
        left, right = columns[at], columns[at + 1]
        if len(text) + 2 <= right - left:
            return (_x(left) + _x(right)) // 2
    return (_x(start) + _x(end)) // 2


def _shaft(shaft: Shaft, columns: Sequence[int]) -> str:
    start, end, y = _x(shaft.start), _x(shaft.end), _y(shaft.line) + 3
    back = 7 if start > end else -7
    if shaft.arrives:
        line = f"M{start} {y}H{end}m{back}-4L{end} {y}l{back} 4"
    else:
        line = f"M{start} {y}H{end + 2 * back}m-5-5l10 10m0-10l-10 10"
    middle = _middle(shaft.start, shaft.end, shaft.label, columns)
    label = _text(middle, y - 5, shaft.label, f"middle {shaft.style.value}")
    return f'<path class="{shaft.style.value}" d="{line}"/>{label}'


def _text(x: int, y: int, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x}" y="{y}">{escape(text.strip())}</text>'
