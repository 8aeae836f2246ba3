"""What `kubectl sglang` asks of the user's kubectl, and what it makes of one that fails, hangs or is none."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from unit.reported import DONE

from sglang_operator.cli import kubectl
from sglang_operator.cli.kubectl import KubectlError, get_endpoint
from sglang_operator.cli.main import group


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
