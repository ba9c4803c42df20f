"""Record engines in a journal, replay it, and draw it as a sequence diagram."""

from rpcproto.publishing import publish
from rpcproto.recording.diagram import (
    ASCII,
    BOXES,
    MAX_WIDTH,
    WIDTH_EACH,
    Arrow,
    Glyphs,
    Layout,
    Note,
    Row,
    Style,
    as_svg,
    as_text,
    lay_out,
    spans,
    svg_style,
)
from rpcproto.recording.journal import Journal, RecordedEngine
from rpcproto.recording.records import FORMAT, JournalError
from rpcproto.recording.replay import Divergence, ReplayedCryptor, replay
from rpcproto.recording.rows import Trace
from rpcproto.recording.story import trace

__all__ = [
    "ASCII",
    "BOXES",
    "FORMAT",
    "MAX_WIDTH",
    "WIDTH_EACH",
    "Arrow",
    "Divergence",
    "Glyphs",
    "Journal",
    "JournalError",
    "Layout",
    "Note",
    "RecordedEngine",
    "ReplayedCryptor",
    "Row",
    "Style",
    "Trace",
    "as_svg",
    "as_text",
    "lay_out",
    "replay",
    "spans",
    "svg_style",
    "trace",
]

publish(globals())
