"""Worlds drawn from seeds, played by programs on both hosts over a room that loses packets: all is
as the rules have it, nothing is left of any call, handler, task or timer, and a seed has the same
story on asyncio and on trio. See simulation_programs.py."""

import pytest
from profiles import choose
from simulation_programs import KINDS, Played, play, repeat, summary, try_seeds
from worlds import WORLDS

from rpcproto.participant.handlers import Handlers

BLOCK = 100
"""So many seeds reach all but what is RARE."""
BLOCKS = choose(fast=2, deep=50, night=200)
RARE = {"answered in grace", "1504", "1505 of the responder"}


@pytest.mark.parametrize("start", range(0, BLOCK * BLOCKS, BLOCK))
def test_programs_on_both_hosts_have_the_same_story_which_the_rules_allow(start: int) -> None:
    reached, complaints = try_seeds(range(start, start + BLOCK))
    assert not complaints, "\n\n".join(complaints)
    assert [kind for kind in KINDS if not reached[kind] and kind not in RARE] == [], summary(
        reached
    )


def test_a_story_tells_what_each_participant_did_and_sent_and_when() -> None:
    lines = Played(0, WORLDS[0]).run()
    assert [who for who, _, _ in lines] == sorted(who for who, _, _ in lines)
    assert {what.split()[0] for _, _, what in lines} >= {"enters", "calls", "serves", "→"}
    assert len({at for _, at, _ in lines}) > 50


def test_a_seed_that_fails_says_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Handlers, "ended", lambda *_: None)
    [complaint, *_] = try_seeds(range(2))[1]
    what, again = complaint.splitlines()
    assert "has handlers that run left after leaving" in what
    seed = int(again.removeprefix("again: python tests/proof simulation_programs "))
    assert not repeat(seed)
    assert complaint in capsys.readouterr().out


def test_stories_that_differ_are_told_with_the_first_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        Played, "story", lambda played: (("alice", len(played._world.name), "is here"),)
    )
    with pytest.raises(AssertionError, match="not the same story on asyncio and trio") as failed:
        play(0)
    assert "only on trio:\n   4.0000000 s  alice is here\n" in str(failed.value)


def test_a_seed_can_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert repeat(0)
    printed = capsys.readouterr().out
    assert printed.count("alice enters") >= 2
    assert printed.endswith("\nall is as the rules have it, and the same on both hosts\n")
