"""Sequence diagrams in the terminal, in colour."""

from typing import Final

from rich.console import Console
from rich.text import Text

from rpcproto.recording import ASCII, BOXES, MAX_WIDTH, WIDTH_EACH, Style, Trace, spans

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
    few participants."""
    if not trace.rows:
        return
    glyphs = BOXES if console.encoding.lower().startswith("utf") else ASCII
    width = max(MAX_WIDTH, WIDTH_EACH * len(trace.participants))
    layout = trace.layout(min(console.width, width))
    for line in spans(layout, glyphs):
        console.print(Text.assemble(*((text, COLOURS[style]) for text, style in line)))
