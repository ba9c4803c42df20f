"""Record engines in a journal, replay the journal, and draw what happened as a sequence diagram."""

from rpcproto.recording.diagram import ASCII as ASCII
from rpcproto.recording.diagram import BOXES as BOXES
from rpcproto.recording.diagram import MAX_WIDTH as MAX_WIDTH
from rpcproto.recording.diagram import WIDTH_EACH as WIDTH_EACH
from rpcproto.recording.diagram import Arrow as Arrow
from rpcproto.recording.diagram import Glyphs as Glyphs
from rpcproto.recording.diagram import Layout as Layout
from rpcproto.recording.diagram import Note as Note
from rpcproto.recording.diagram import Row as Row
from rpcproto.recording.diagram import Style as Style
from rpcproto.recording.diagram import as_svg as as_svg
from rpcproto.recording.diagram import as_text as as_text
from rpcproto.recording.diagram import lay_out as lay_out
from rpcproto.recording.diagram import spans as spans
from rpcproto.recording.journal import Journal as Journal
from rpcproto.recording.journal import RecordedEngine as RecordedEngine
from rpcproto.recording.records import FORMAT as FORMAT
from rpcproto.recording.records import JournalError as JournalError
from rpcproto.recording.replay import Divergence as Divergence
from rpcproto.recording.replay import ReplayedCryptor as ReplayedCryptor
from rpcproto.recording.replay import replay as replay
from rpcproto.recording.rows import Trace as Trace
from rpcproto.recording.story import trace as trace
