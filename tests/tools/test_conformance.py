"""The conformance suite: right testees pass, wrong ones get clear verdicts, nothing hangs."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

import anyio
import pytest
from more_wrong_ways import MORE_WRONG_WAYS
from paths import DOCS, EXAMPLES, TESTS
from wrong_ways import BelievingOrder, Right, ignoring, sending

from rpcproto import cli
from rpcproto.conformance.case import SECTIONS, Case, Level, NotPossible, Unmet
from rpcproto.conformance.cases import CASES
from rpcproto.conformance.judge import MAX_DEATHS, MAX_SILENT, Judge, select
from rpcproto.conformance.results import Run, Verdict
from rpcproto.conformance.scene import Scene
from rpcproto.conformance.stage import Deaf
from rpcproto.conformance.wire_attachment import ProcessAttachment
from rpcproto.core.packets_pb2 import DataPacket

PEER = f"{sys.executable} {EXAMPLES / 'testees/peer.py'}"


def run_testee(mode: str) -> str:
    """The command of a testee of `tests/support/testee.py`."""
    return f"{sys.executable} {TESTS / 'support/testee.py'} {mode}"


def wrong_about(number: str) -> type[Right]:
    """A testee that fails this case."""
    return next(testee for numbers, testee in MORE_WRONG_WAYS if number in numbers.split())


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    def verdicts(self) -> Counter[str]:
        """How often there was each verdict."""
        last = self.out.strip().splitlines()[-1].partition(" times: ")[2]
        counts = re.findall(r"(\d+) ([a-z ]+)", last)
        return Counter({verdict: int(count) for count, verdict in counts})


Conform: TypeAlias = Callable[..., Ran]


@pytest.fixture
def conform(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Conform:
    """The command, in this process."""

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["rpcproto", "conform", *arguments])
        monkeypatch.setenv("COLUMNS", "100")
        code = cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "harness error" not in out
        return Ran(code, out, err)

    return run


def test_chunks_of_other_conversations_that_everybody_gets_are_no_answer(conform: Conform) -> None:
    ran = conform("--exec", run_testee("spilling"), "--only", "RPC-9.13", "--only", "RPC-9.14")
    assert ran.code == 0, ran.out


# the cases


def test_cases_are_numbered_without_gaps_and_say_what_they_are_for() -> None:
    numbers: dict[int, list[int]] = {}
    for case in CASES:
        numbers.setdefault(case.section, []).append(case.number)
        assert case.why.endswith("."), case.case_id
        assert not case.sees.endswith("."), case.case_id
        assert not case.title.endswith("."), case.case_id
        assert (case.level is Level.INFO) == case.sees.startswith("INFO: "), case.case_id
        assert case.protocols, case.case_id
    for section, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), f"section {section}"
    assert set(numbers) <= set(SECTIONS)
    text = (DOCS / "rules.md").read_text("utf-8")
    for rule in {rule for case in CASES for rule in case.rule.split() if rule[0] in "RL"}:
        assert re.search(rf"\b{rule}\b", text), rule


def test_no_policy_of_ours_is_a_must() -> None:
    """R28's lengths of names and R16's numbers are bounds of this engine alone."""
    policies = {"R16": "hundred", "R28": "256"}
    for case in CASES:
        for rule, word in policies.items():
            if rule in case.rule.split() and word in case.title:
                assert case.level is not Level.MUST, case.case_id


# a testee that is right


def test_our_engine_passes_every_case_at_every_client_protocol(conform: Conform) -> None:
    ran = conform("--exec", PEER, "--strict")
    assert ran.code == 0, ran.out
    assert set(ran.verdicts()) <= {"pass", "info", "unsupported"}, ran.out


def test_two_runs_of_one_testee_give_the_same_verdicts(conform: Conform) -> None:
    one, two = (conform("--exec", PEER, "--only", "RPC-7") for _ in range(2))
    assert one.out == two.out


def test_our_engine_passes_on_real_time(conform: Conform) -> None:
    ran = conform(
        "--exec", run_testee("real"), "--strict", "--only", "RPC-2", "--client-protocol", "2"
    )
    assert ran.code == 0, ran.out
    assert ran.verdicts()["pass"] >= 8


def test_a_slow_testee_passes(conform: Conform) -> None:
    arguments = ["--strict", "--only", "RPC-3", "--client-protocol", "1"]
    ran = conform("--exec", run_testee("slow"), *arguments)
    assert ran.code == 0, ran.out


def test_our_engine_passes_over_tcp(conform: Conform) -> None:
    command = [sys.executable, str(TESTS / "support/testee.py"), "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        for _ in range(2):
            ran = conform("--tcp", f"127.0.0.1:{port}", "--strict", "--only", "RPC-1")
            assert ran.code == 0, ran.out
        process.kill()


def test_drawn_conversations_are_the_same_for_the_same_seed(conform: Conform) -> None:
    arguments = ["--exec", PEER, "--random", "6", "--only", "RPC-16"]
    one, two, other = (conform(*arguments, "--seed", seed) for seed in ("7", "7", "8"))
    assert one.code == 0, one.out
    assert one.out == two.out
    assert one.verdicts()["pass"] == 6
    assert other.code == 0, other.out
    again = conform("--exec", PEER, "--random", "6", "--seed", "7", "--only", "DRAWN-7.3")
    assert again.verdicts() == {"pass": 1}


def test_drawn_conversations_find_a_testee_that_runs_handlers_twice(conform: Conform) -> None:
    arguments = ["--random", "6", "--seed", "7", "--only", "RPC-16"]
    ran = conform("--exec", run_testee("forgetful"), *arguments)
    assert ran.code == 1
    assert re.search(r"DRAWN-7\.\d+ fail", ran.out)


# testees that are wrong


def test_a_testee_that_answers_everything_wrongly_fails(conform: Conform) -> None:
    arguments = ["--only", "RPC-3", "--level", "must", "--client-protocol", "1"]
    ran = conform("--exec", run_testee("wrong"), *arguments)
    assert ran.code == 1
    assert "expected      the answer 'hello'" in ran.out
    assert "seen          the answer 'wrong'" in ran.out
    assert ran.verdicts()["pass"] <= 1  # there is an answer whose header is right


def test_a_silent_testee_fails_its_cases(conform: Conform) -> None:
    ran = conform(
        "--exec", run_testee("silent"), "--timeout-scale", "0.2", "--client-protocol", "2"
    )
    assert ran.code == 1
    assert ran.verdicts()["pass"] == 0
    assert "not played: it answers no echo any more" in ran.out


def test_a_testee_that_leaves_some_requests_unanswered_is_played_on() -> None:
    """Silence in some cases is not the silence of a testee that is gone."""
    testee = ignoring(lambda packet: b"conform.size" in packet.SerializeToString())()
    needs_size = [case.case_id for case in CASES if "conform.size" in case.methods]
    plays = select(CASES, only=[*needs_size, "RPC-8.1", "RPC-15.2"], protocols=[0])
    results = anyio.run(Judge(testee).run, plays).results
    assert sum(result.verdict is Verdict.FAIL for result in results) >= MAX_SILENT
    assert not any("not played" in result.seen for result in results)
    assert results[-1].verdict is Verdict.PASS


def test_a_testee_whose_clock_does_not_answer_is_not_waited_for_in_every_case() -> None:
    class Clockless(Right):
        asked = 0

        async def set_now(self, now: float) -> None:
            self.asked += 1
            raise TimeoutError

    testee = Clockless()
    run = anyio.run(Judge(testee).run, select(CASES, protocols=[0]))
    assert testee.asked == MAX_DEATHS
    assert run.exit_code() == 1
    assert run.stopped == (
        'the testee has died 3 times, last so: the testee did not answer {"now": 0.0} in time'
    )


def test_an_answer_about_another_request_is_told_by_its_id() -> None:
    def rename(packet: DataPacket) -> None:
        if packet.HasField("rpc_response"):
            packet.rpc_response.request_id = "another"

    testee = sending(rename)()
    (result,) = anyio.run(Judge(testee).run, select(CASES, only=["RPC-2.1"], protocols=[0])).results
    assert result.verdict is Verdict.FAIL
    assert "about the request 'another', not '" in result.seen


def test_a_testee_that_dies_fails_that_case_and_is_started_again(conform: Conform) -> None:
    arguments = ["--only", "RPC-1", "--client-protocol", "0"]
    ran = conform("--exec", run_testee("dying"), *arguments)
    assert ran.code == 1
    assert ran.verdicts()["fail"] == 1
    assert "RPC-1.12 fail" in ran.out
    assert "the testee ended with exit code 3" in ran.out
    assert "its stderr    it was 'once' that did it" in ran.out


def test_a_case_that_killed_the_testee_is_not_played_again(conform: Conform) -> None:
    ran = conform("--exec", run_testee("dying"), "--only", "RPC-1")
    assert ran.verdicts()["fail"] == 3
    assert "not played: the testee has died of it with client_protocol 0" in ran.out


def test_after_the_third_death_the_run_ends(conform: Conform) -> None:
    cases = [f"--only={name}" for name in ("RPC-1.12", "RPC-8.9", "RPC-14.9")]
    ran = conform("--exec", run_testee("dying"), *cases, "--client-protocol", "0")
    assert ran.code == 1
    assert "The run ended early: the testee has died 3 times" in ran.out


def test_a_testee_that_floods_is_stopped(conform: Conform) -> None:
    arguments = ["--only", "RPC-1.12", "--client-protocol", "0"]
    ran = conform("--exec", run_testee("flooding"), *arguments)
    assert ran.code == 1
    assert "the testee floods" in ran.out


def test_a_testee_that_writes_no_frames_fails_that_case(conform: Conform) -> None:
    arguments = ["--only", "RPC-1", "--client-protocol", "0"]
    ran = conform("--exec", run_testee("garbage"), *arguments)
    assert ran.code == 1
    assert "a frame of 4294967295 bytes" in ran.out


def test_a_packet_that_cannot_be_read_fails_the_case(conform: Conform) -> None:
    arguments = ["--only", "RPC-3.1", "--client-protocol", "0"]
    ran = conform("--exec", run_testee("unreadable"), *arguments)
    assert ran.code == 1
    assert "expected      packets that can be read" in ran.out
    assert "seen          ff ff ff" in ran.out


def test_methods_that_are_not_served_make_cases_unsupported(conform: Conform) -> None:
    ran = conform("--exec", run_testee("poor"), "--only", "RPC-1", "--only", "RPC-3.1")
    assert ran.code == 0
    assert ran.verdicts()["pass"] == 1
    assert ran.verdicts()["unsupported"] >= 20


def test_the_first_line_says_what_the_testee_says_of_itself(conform: Conform) -> None:
    first = "testee: client_protocol 2, capabilities 2"
    ran = conform("--exec", PEER, "--only", "RPC-2.1")
    assert ran.out.splitlines()[0] == f"{first}, virtual time"
    ran = conform("--exec", run_testee("poor"), "--only", "RPC-2.1")
    missing = "conform.size, conform.text, conform.fail"
    assert ran.out.splitlines()[0].startswith(f"{first}; it does not serve {missing}")


def test_a_case_that_gets_no_echo_names_what_was_played_beside_it() -> None:
    """A handler that blocks its whole program is seen by other cases first."""

    async def judge() -> Run:
        both, over = anyio.Event(), anyio.Event()

        async def deaf(scene: Scene) -> None:
            await both.wait()
            over.set()
            raise Deaf("an answer", "none")

        async def waiting(scene: Scene) -> None:
            both.set()
            await over.wait()

        cases = [made(1, Level.MUST, deaf), made(2, Level.MUST, waiting)]
        async with ProcessAttachment(run_testee("real"), "testee") as attachment:
            return await Judge(attachment).run(
                select([case._replace(seconds=1.0) for case in cases])
            )

    results = anyio.run(judge).results
    assert results[0].seen == "none, while RPC-16.2 was played beside it"
    assert results[1].verdict is Verdict.PASS


def test_a_second_error_is_told_as_an_error_and_not_by_the_ack_before_it() -> None:
    testee = wrong_about("8.9")()
    (result,) = anyio.run(Judge(testee).run, select(CASES, only=["RPC-8.9"], protocols=[0])).results
    assert result.expected == "an ack at most"
    assert result.seen.startswith("error 7001 'once'")


def test_an_answer_in_place_of_an_error_is_told_by_its_payload() -> None:
    plays = select(CASES, only=["RPC-9.26"], protocols=[1])
    (result,) = anyio.run(Judge(BelievingOrder()).run, plays).results
    assert result.verdict is Verdict.NOT_STRICT
    assert result.seen == "the answer 'one, zwei, четыре, 五'"


# exit code 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--exec", "no-such-command here"], "cannot start 'no-such-command': no such command"),
        (["--exec", "/"], "cannot start '/': Permission denied"),
        (["--exec", "an 'open quote"], '--exec "an \'open quote": No closing quotation'),
        (["--exec", ""], "--exec '': the command is empty"),
        (["--tcp", "127.0.0.1:1"], "cannot connect to 127.0.0.1:1: connection refused"),
        (["--tcp", "here"], "--tcp 'here': it must be HOST:PORT, such as 127.0.0.1:7000"),
        ([], "give either --exec COMMAND, --tcp HOST:PORT or --room"),
        (["--exec", "a", "--only", "RPC-99"], "no case is selected; --list shows all of them"),
        (
            ["--exec", run_testee("bare"), "--timeout-scale", "0.5"],
            (
                "the testee serves none of its methods: each testee must answer a call of "
                "conform.echo"
            ),
        ),
        (
            ["--exec", run_testee("terse")],
            "the testee sent a hello without a client_protocol, which is 0, 1 or 2",
        ),
        (["--exec", run_testee("misnamed")], "the testee is 'somebody else' in its hello"),
        (
            ["--exec", run_testee("talkative")],
            (
                "the testee sent a frame of 1818850164 bytes, more than 1048576 (it begins with "
                "b'list'); is that text? Only frames may be written to standard output"
            ),
        ),
        (
            ["--exec", run_testee("mute"), "--timeout-scale", "0.02"],
            "the testee sent no hello within",
        ),
        (["--exec", f"{sys.executable} -c 'exit(7)'"], "the testee ended with exit code 7"),
        (["--exec", run_testee("poor"), "--only", "RPC-1.1"], ""),
    ],
)
def test_where_there_is_nothing_to_test_one_sentence_says_why(
    conform: Conform, arguments: list[str], sentence: str
) -> None:
    ran = conform(*arguments)
    assert ran.code == 2
    assert ran.err.startswith(f"rpcproto: {sentence}" if sentence else "")


def test_list_shows_the_cases_and_plays_none(conform: Conform) -> None:
    ran = conform("--list", "--only", "R14", "--level", "must")
    assert ran.code == 0
    assert "RPC-2.1   MUST" in ran.out
    assert "SHOULD" not in ran.out


# verdicts


async def raising(scene: Scene) -> None:
    raise ZeroDivisionError("a fault of the suite")


async def expecting(scene: Scene) -> None:
    raise Unmet("one thing", "another")


async def impossible(scene: Scene) -> None:
    raise NotPossible("it cannot")


async def telling(scene: Scene) -> str:
    return "what it does"


def made(number: int, level: Level, play: Callable[[Scene], Awaitable[str | None]]) -> Case:
    return Case(16, number, "", "something", "R1", "", level, play, (), (2,), 0, 0.0)


def judged(*cases: Case) -> Run:
    """What the judge says of these cases, with our engine as the testee."""

    async def judge() -> Run:
        async with ProcessAttachment(PEER, "testee") as attachment:
            return await Judge(attachment).run(select(cases))

    return anyio.run(judge)


def test_a_verdict_depends_on_the_level_and_on_whose_fault_it_is() -> None:
    run = judged(
        made(1, Level.MUST, expecting),
        made(2, Level.SHOULD, expecting),
        made(3, Level.INFO, telling),
        made(4, Level.MUST, impossible),
        made(5, Level.SHOULD, raising),
    )
    assert [result.verdict for result in run.results] == [
        Verdict.FAIL,
        Verdict.NOT_STRICT,
        Verdict.INFO,
        Verdict.UNSUPPORTED,
        Verdict.HARNESS_ERROR,
    ]
    assert "ZeroDivisionError: a fault of the suite" in run.results[4].seen
    assert (run.results[0].expected, run.results[0].seen) == ("one thing", "another")


def test_cases_in_which_nothing_is_sent_are_not_the_silence_of_the_testee() -> None:
    cases = [made(number, Level.MUST, expecting) for number in range(5)]
    run = judged(*cases, *(case for case in CASES if case.case_id == "RPC-2.1"))
    assert run.results[-1].verdict is Verdict.PASS


def test_an_exit_code_is_about_what_counts() -> None:
    should = judged(made(1, Level.SHOULD, expecting))
    assert should.exit_code() == 0
    assert should.exit_code(strict=True) == 1
    assert judged(made(1, Level.MUST, raising)).exit_code() == 1
    assert judged(made(1, Level.MUST, impossible)).exit_code() == 2


def test_cases_are_chosen_by_their_names_their_sections_and_their_rules() -> None:
    def names(*only: str) -> set[str]:
        return {case.case_id for case, _ in select(CASES, only=only)}

    assert names("RPC-4.3") == names("rpc-4.3") == {"RPC-4.3"}
    assert names("RPC-4") == {case.case_id for case in CASES if case.section == 4}
    assert names("R14") == {case.case_id for case in CASES if "R14" in case.rule.split()}
    assert {protocol for _, protocol in select(CASES, protocols=[1])} == {1}
