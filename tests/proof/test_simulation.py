"""Worlds drawn from seeds: every call ends exactly once, with something that its network allows, no
handler runs twice for a request, and in the end nothing is left (L17). See simulation.py."""

from pathlib import Path

import pytest
from profiles import choose
from simulation import KINDS, repeat, run_for, summary, try_seeds

from rpcproto.core.responder import Responder
from rpcproto.recording import replay

BLOCK = 250
"""So many seeds reach everything that there is to reach."""
BLOCKS = choose(fast=2, deep=40, night=40)


@pytest.mark.parametrize("start", range(0, BLOCK * BLOCKS, BLOCK))
def test_all_is_as_the_rules_have_it(start: int) -> None:
    reached, complaints = try_seeds(range(start, start + BLOCK))
    assert not complaints, "\n\n".join(complaints)
    assert [kind for kind in KINDS if not reached[kind]] == [], summary(reached)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Engines that do not tell a caller when a part of an answer could not be sent."""
    monkeypatch.setattr(Responder, "send_failed", lambda *_: None)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("broken")
def test_a_seed_that_fails_says_how_to_repeat_it_and_leaves_a_journal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, [complaint, *_] = try_seeds(range(30))
    first, again, written = complaint.splitlines()
    assert "nobody was told (R10)" in first
    seed = int(again.removeprefix("again: python tests/proof simulation "))
    journal = Path(written.removeprefix("journal: "))
    assert journal == Path(f"simulation-{seed}.jsonl")
    assert replay(journal.read_text("utf-8").splitlines()) == ()
    assert not repeat(seed)
    printed = capsys.readouterr().out
    assert "alice is here as PA_alice_1" in printed
    assert first.removeprefix(f"seed {seed}: ") in printed


def test_a_seed_can_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert repeat(0)
    printed = capsys.readouterr().out
    assert printed.startswith("   0.000 s  alice is here as PA_alice_1\n")
    assert printed.endswith("\nall is as the rules have it\n")


def test_a_run_by_the_hour_says_where_it_starts_and_what_it_reached(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_for(0.0, start=4_000, jobs=1)
    printed = capsys.readouterr().out
    assert printed.startswith("seeds from 4000 on")
    assert "seeds\n" in printed
