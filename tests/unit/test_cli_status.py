"""`kubectl sglang status`: what a status comes to, and when waiting for it ends."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sglang_operator.cli import kubectl
from sglang_operator.cli.kubectl import KubectlError, get_endpoint
from sglang_operator.cli.main import group
from sglang_operator.cli.situation import Outcome, Situation, lines, situation_of
from sglang_operator.cli.status import follow
from sglang_operator.cli.view import View

SERVING = ("Ready", "True", "Serving")
SILENT = ("Ready", "False", "NotServing")
STOPPED = ("Ready", "False", "Stopped")
COMPLETE = ("Progressing", "False", "RolloutComplete")
FAILED = {"name": "e-2", "number": 2, "state": "Failed", "reason": "OutOfMemory", "message": "9 GiB lack"}


def endpoint(*conditions: tuple[str, str, str], generation: int = 2, **status: Any) -> dict[str, Any]:
    """Each condition by type, status and reason; its message is its reason in small letters."""
    found = [
        {"type": kind, "status": state, "reason": reason, "message": reason.lower()}
        for kind, state, reason in (("Accepted", "True", "Valid"), *conditions)
    ]
    made = {"observedGeneration": 2, "conditions": found, **status}
    return {"metadata": {"name": "e", "namespace": "n", "generation": generation}, "status": made}


@pytest.mark.parametrize(
    ("conditions", "outcome", "reason"),
    [
        ([SERVING, COMPLETE], Outcome.ARRIVED, "Serving"),
        ([SERVING, ("Progressing", "True", "Draining")], Outcome.ARRIVED, "Serving"),
        (
            [("Ready", "True", "ScaledToZero"), COMPLETE],
            Outcome.ARRIVED,
            "ScaledToZero",
        ),
        ([STOPPED, COMPLETE], Outcome.ARRIVED, "Stopped"),
        ([SERVING, ("Progressing", "True", "OnTrial")], Outcome.WAITING, "OnTrial"),
        ([SERVING, ("Progressing", "True", "WaitingForCapacity")], Outcome.WAITING, "WaitingForCapacity"),
        ([SERVING, ("Progressing", "Unknown", "Paused")], Outcome.WAITING, "Paused"),
        ([STOPPED, ("Progressing", "Unknown", "Paused")], Outcome.WAITING, "Paused"),
        (
            [SILENT, ("Progressing", "False", "KubeRayAbsent")],
            Outcome.WAITING,
            "KubeRayAbsent",
        ),
        ([SERVING, ("Progressing", "False", "RolledBack")], Outcome.FAILED, "RolledBack"),
        ([SILENT, ("Progressing", "True", "RollingBack")], Outcome.FAILED, "RollingBack"),
        (
            [SILENT, ("Degraded", "True", "RevisionFailing")],
            Outcome.FAILED,
            "RevisionFailing",
        ),
    ],
)
def test_what_conditions_come_to(conditions: list[tuple[str, str, str]], outcome: Outcome, reason: str) -> None:
    assert situation_of(endpoint(*conditions)) == Situation(outcome, reason, reason.lower())


def test_an_invalid_spec_has_failed_although_the_revision_before_it_serves() -> None:
    invalid = endpoint(SERVING, COMPLETE)
    invalid["status"]["conditions"][0] |= {"status": "False", "reason": "InvalidSpec", "message": "spec.x: no"}
    assert situation_of(invalid) == Situation(Outcome.FAILED, "InvalidSpec", "spec.x: no")


def test_what_the_operator_has_not_seen_is_not_judged_by_the_status_before() -> None:
    seen = endpoint(SERVING, COMPLETE, generation=3)
    assert situation_of(seen).outcome is Outcome.WAITING
    assert "is it running" in situation_of(seen).message
    never = {"metadata": {"name": "e", "namespace": "n", "generation": 1}}
    assert situation_of(never) == situation_of(seen)
    assert list(lines(never)) == [f"n/e: NotSeen: {situation_of(seen).message}"]


def test_a_start_is_told_by_the_log_of_the_replica() -> None:
    updating = {"revision": "e-2", "step": "model", "progress": "3 of 15 GiB"}
    starting = endpoint(SILENT, ("Progressing", "True", "StartingRevision"), updating=updating)
    assert situation_of(starting).message == "e-2: model: 3 of 15 GiB"


def test_everything_is_shown() -> None:
    told = "\n".join(
        lines(
            endpoint(
                SERVING,
                ("Progressing", "False", "RolledBack"),
                url="http://e.n.svc",
                desiredReplicas=2,
                readyReplicas=1,
                accelerators={"allocated": 16, "rollout": 8},
                serving={"revision": "e-1", "model": "hf://a/b", "image": "i:1", "modelCommit": "c0ffee"},
                updating={"revision": "e-3", "step": "Pending", "progress": "", "changed": ["engine.args"]},
                adapters=[{"name": "sql", "state": "Failed", "replicas": "1/2", "message": "no such file"}],
                revisions=[{**FAILED, "log": [f"line {n}" for n in range(9)]}, {"name": "e-1", "state": "Serving"}],
            )
        )
    )
    assert (
        told
        == """\
n/e: RolledBack: rolledback
  Accepted      True    Valid: valid
  Ready         True    Serving: serving
  Progressing   False   RolledBack: rolledback
  url           http://e.n.svc/v1
  replicas      1 of 2 answer
  accelerators  16 held, 8 of them by what does not serve
  serving       e-1: hf://a/b @ c0ffee, i:1
  updating      e-3: Pending (changed: engine.args)
  adapter sql   Failed 1/2 no such file
  revision 2  e-2  Failed: OutOfMemory: 9 GiB lack
    | line 4
    | line 5
    | line 6
    | line 7
    | line 8
  revision ?  e-1  Serving"""
    )


class Clock:
    """Time goes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def followed(
    looks: Iterator[dict[str, Any] | KubectlError], seconds: float = 60, each: float = 0
) -> tuple[dict[str, Any], str]:
    """What was seen last, and what was shown; each look takes `each` seconds, and no more than it is given."""
    out, clock = io.StringIO(), Clock()

    def look(left: float) -> dict[str, Any]:
        clock.sleep(min(each, left))
        found = next(looks)
        if isinstance(found, KubectlError):
            raise found
        return found

    return dict(follow(look, View(out), seconds, clock, clock.sleep)), out.getvalue()


WAITS = endpoint(SILENT, ("Progressing", "True", "StartingRevision"))
DONE = endpoint(SERVING, COMPLETE)
AWAY = KubectlError("connection refused", "wait", is_final=False)


def test_waiting_shows_each_step_once_and_outlives_an_api_server_that_is_away() -> None:
    last, shown = followed(iter([WAITS, WAITS, AWAY, AWAY, WAITS, DONE]))
    assert last == DONE
    assert shown.splitlines() == [
        "StartingRevision startingrevision",
        "error: connection refused",
        "  remedy: wait",
        "StartingRevision startingrevision",
        "Serving  serving",
    ]


def test_waiting_ends_with_its_time_and_with_what_is_final() -> None:
    last, shown = followed(iter([WAITS] * 100), seconds=11)
    assert last == WAITS
    assert shown.endswith("not in time: the 11 s of --timeout are over\n")
    with pytest.raises(KubectlError, match="no such endpoint"):
        followed(iter([KubectlError("no such endpoint", "look", is_final=True)]))


def test_a_server_that_is_away_at_the_end_was_not_asked() -> None:
    with pytest.raises(KubectlError, match="connection refused"):
        followed(iter([WAITS, *[AWAY] * 100]), seconds=10)
    with pytest.raises(KubectlError, match="connection refused"):
        followed(iter([AWAY]), seconds=10, each=30)


def test_a_look_that_the_end_of_the_time_cuts_says_nothing_of_the_server() -> None:
    assert followed(iter([WAITS, AWAY]), seconds=10, each=7)[0] == WAITS


@pytest.mark.parametrize("text", ["5x", "-1", "", "1h30m"])
def test_a_time_is_written_as_for_kubectl(text: str) -> None:
    done = CliRunner().invoke(group, ["status", "e", "--wait", "--timeout", text])
    assert done.exit_code == 2
    assert "is not like 90s, 30m or 1h" in done.stderr


def test_without_kubectl_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(group, ["status", "e"])
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == "error: kubectl is not in PATH\n  remedy: install kubectl\n"


@pytest.fixture
def kubectl_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Puts a shell script in the place of kubectl; its directory."""

    def put(script: str) -> Path:
        program = tmp_path / "kubectl"
        program.write_text(f"#!/bin/sh\ncd {tmp_path}\necho x >> asked\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return tmp_path

    return put


Put = Callable[[str], Path]
LOG = 'E1201 03:49:58.417071   21043 memcache.go:265] "Unhandled Error" err="couldn\'t get current server API groups"'
# As kubectl 1.28 to 1.36 say it.
CONFIGURATION = {
    "Error in configuration: context was not found for specified context: nope": "kubectl config get-contexts",
    'error: context "nope" does not exist': "kubectl config get-contexts",
    "error: stat /no/such: no such file or directory": "name a kubeconfig",
    'error: error loading config file "bad.yaml": yaml: line 1: did not find': "name a kubeconfig",
    "error: unable to read client-cert /c for f due to open /c: no such file or directory": "name a kubeconfig",
    "error: invalid configuration: no configuration has been provided, try setting X": "name a kubeconfig",
    f"{LOG}\nerror: You must be logged in to the server (Unauthorized)": "log in",
    "error: You must be logged in to the server (the server has asked for the client to provide credentials)": "log in",
    "error: there is no need to specify a resource type as a separate argument when passing arguments in "
    "resource/name form": "the endpoint alone",
    'Error from server (NotFound): sglangendpoints.serve.sglang.io "e" not found': "`kubectl get sgl -A`",
    'Error from server (Forbidden): sglangendpoints.serve.sglang.io "e" is forbidden: User "u"': "ask for the right",
    'error: the server doesn\'t have a resource type "sglangendpoints"': "install the operator",
}


@pytest.mark.parametrize("said", CONFIGURATION)
def test_waiting_does_not_ask_again_what_cannot_change(kubectl_is: Put, said: str) -> None:
    where = kubectl_is(f"cat >&2 <<'EOF'\n{said}\nEOF\nexit 1")
    done = CliRunner().invoke(group, ["status", "e", "--wait", "--timeout", "3s"])
    assert (done.exit_code, done.stdout) == (3, "")
    assert CONFIGURATION[said] in done.stderr.partition("remedy: ")[2]
    assert (where / "asked").read_text() == "x\n"
    assert "memcache" not in done.stderr


@pytest.mark.parametrize(
    "said",
    [
        "Unable to connect to the server: dial tcp: lookup no.such.file.or.directory on 10.0.0.2:53: no such host",
        "Unable to connect to the server: dial tcp: lookup api.context.example: server misbehaving",
        "Unable to connect to the server: dial unix /run/x: connect: no such file or directory",
        "Unable to connect to the server: net/http: TLS handshake timeout",
        "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?",
        'error: Get "https://10.0.0.1/api?timeout=20s": context deadline exceeded: EOF',
        "Error from server (ServiceUnavailable): the server is currently unable to handle the request",
        "Error from server (InternalError): an error on the server has prevented the request from succeeding",
        f"{LOG}",
    ],
)
def test_a_server_that_may_come_is_asked_again(kubectl_is: Put, said: str) -> None:
    kubectl_is(f"cat >&2 <<'EOF'\n{said}\nEOF\nexit 1")
    with pytest.raises(KubectlError, match="remedy: ") as caught:
        get_endpoint("e", [])
    assert not caught.value.is_final
    assert str(caught.value).splitlines()[0], "kubectl's own words, its log if there are no others"


def test_a_kubectl_that_hangs_is_ended_with_the_time(kubectl_is: Put) -> None:
    kubectl_is("exec sleep 60")
    began = time.monotonic()
    done = CliRunner().invoke(group, ["status", "e", "--wait", "--timeout", "1s"])
    assert done.exit_code == 3
    assert "kubectl did not answer within 1 s" in done.stderr
    assert time.monotonic() - began < 30


def test_a_kubectl_that_hangs_is_ended_without_wait_too(kubectl_is: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl_is("exec sleep 60")
    monkeypatch.setattr(kubectl, "ASK_SECONDS", 0.2)
    with pytest.raises(KubectlError, match="did not answer") as caught:
        get_endpoint("e", [])
    assert not caught.value.is_final


def test_each_request_of_kubectl_has_an_end_and_a_name_is_no_flag(kubectl_is: Put) -> None:
    where = kubectl_is('echo "$@" > arguments; echo {}')
    assert get_endpoint("-A", ["--context=c"]) == {}
    asked = (where / "arguments").read_text().split()
    assert {"--request-timeout=20s", "--context=c"} <= set(asked)
    assert asked[-2:] == ["--", "-A"]


@pytest.mark.parametrize("waits", [["--wait"], ["--wait", "--timeout", "0"], []])
def test_what_was_seen_last_is_printed_without_another_question(kubectl_is: Put, waits: list[str]) -> None:
    where = kubectl_is(f"cat <<'EOF'\n{json.dumps(DONE)}\nEOF")
    done = CliRunner().invoke(group, ["status", "e", *waits])
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "n/e: Serving: serving")
    assert (where / "asked").read_text() == "x\n"


def test_what_is_no_kubectl_is_told(kubectl_is: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    where = kubectl_is("echo Welcome")
    done = CliRunner().invoke(group, ["status", "e", "--wait", "--timeout", "3s"])
    assert (done.exit_code, "is no JSON\n  remedy: " in done.stderr) == (3, True)
    monkeypatch.setenv("PATH", str(where))  # else the next kubectl in it runs
    (where / "kubectl").write_bytes(b"\x7fELF of another machine")
    done = CliRunner().invoke(group, ["status", "e", "--wait", "--timeout", "3s"])
    assert done.exit_code == 3
    assert "kubectl cannot be started: Exec format error\n  remedy: " in done.stderr
