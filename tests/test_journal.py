"""The journal: what is recorded, and that a replay of it is the run again."""

from engine_scripts import US, Recording, play
from hypothesis import given
from script_strategies import LAW, recordings

from rpcproto.journal import Journal, replay


def recorded(recording: Recording) -> list[str]:
    """The journal of a run that has been before, and is the same again while it is recorded."""
    lines: list[str] = []
    ids = iter(recording.ids)
    engine = Journal(lines.append).engine(US, new_id=ids.__next__, config=recording.config)
    assert tuple(play(engine, input_) for input_ in recording.inputs) == recording.outcomes
    return lines


@LAW
@given(recordings())
def test_recording_changes_nothing_and_a_replay_gives_the_same_bytes(recording: Recording) -> None:
    assert replay(recorded(recording)) == ()
