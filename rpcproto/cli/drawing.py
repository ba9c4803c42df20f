"""Sequence diagrams in the terminal, in colour."""

from typing import Final

from rich.console import Console
from rich.text import Text

from rpcproto.recording import ASCII, BOXES, MAX_WIDTH, WIDTH_EACH, Style, Trace, spans

MAX_PARTICIPANTS: Final = 100
"""More than these cannot be read as text."""
WIDTH_AT_LEAST: Final = 8
"""Between two lifelines, in columns."""

COLOURS: Final = {
    Style.PLAIN: "",
    Style.HEAD: "bold",
    Style.LINE: "bright_black",
    Style.REQUEST: "cyan",
    Style.ACK: "bright_black",
    Style.RESPONSE: "green",
    Style.ERROR: "red",
    Style.STREAM: "magenta",
    Style.GOOD: "bold green",
    Style.BAD: "bold red",
    Style.NOTABLE: "yellow",
}
"""What rich calls the look of a style."""


def draw(trace: Trace, console: Console) -> None:
    """Draw what was seen, if anything was, as wide as it is good to read: wider for more than a
    few participants, and for many wider than the terminal."""
    if not trace.rows:
        return
    glyphs = BOXES if console.encoding.lower().startswith("utf") else ASCII
    width = max(MAX_WIDTH, WIDTH_EACH * len(trace.participants))
    least = WIDTH_AT_LEAST * (len(trace.participants) + 1)
    layout = trace.layout(max(min(console.width, width), least))
    for line in spans(layout, glyphs):
        shown = Text.assemble(*((text, COLOURS[style]) for text, style in line))
        console.print(shown, soft_wrap=True)
