"""`sglang-operator run`: options, environment, and what it says when called wrongly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sglang_operator.app import main
from sglang_operator.app.options import Options, identity, parse_namespaces


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """The options that the operator was started with."""
    seen: list[Options] = []

    def start(options: Options) -> int:
        seen.append(options)
        return 0

    monkeypatch.setattr(main, "start", start)
    return seen


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main.group, ["run", *arguments], env=environment)


def test_without_options_it_serves_the_cluster(started: list[Options]) -> None:
    assert call().exit_code == 0
    assert started == [Options()]


def test_every_option_is_an_environment_variable_too(started: list[Options], tmp_path: Path) -> None:
    file = tmp_path / "defaults.yaml"
    file.touch()
    environment = {
        "NAMESPACES": "a,b",
        "DEFAULTS": str(file),
        "IMAGE": "cpu=registry.example.com/serve:1",
        "WORKERS": "7",
        "RESYNC_SECONDS": "60",
        "LEADER_ELECTION": "false",
        "LEASE_NAME": "mine",
        "LEASE_NAMESPACE": "here",
        "KUBERAY_NAMESPACE": "kuberay",
        "READ_NODES": "true",
        "HTTP_PORT": "0",
        "LOG_FORMAT": "text",
        "LOG_LEVEL": "debug",
    }
    arguments = [
        part
        for name, value in environment.items()
        if name not in ("LEADER_ELECTION", "READ_NODES")
        for part in (f"--{name.lower().replace('_', '-')}", value)
    ]
    assert call(*arguments, "--no-leader-election", "--read-nodes").exit_code == 0
    assert call(**{f"SGLANG_OPERATOR_{name}": value for name, value in environment.items()}).exit_code == 0
    assert started[0] == started[1]
    images = ("cpu=registry.example.com/serve:1",)
    expected = Options(("a", "b"), file, images, 7, 60.0, False, "mine", "here", "kuberay", True, 0, "text", "debug")
    assert started[0] == expected


def test_images_of_several_vendors(started: list[Options]) -> None:
    both = ("cpu=registry.example.com/serve:1", "amd=registry.example.com:5000/rocm@sha256:0")
    assert call("--image", both[0], "--image", both[1]).exit_code == 0
    assert call(SGLANG_OPERATOR_IMAGE=" ".join(both)).exit_code == 0
    assert [options.images for options in started] == [both, both]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--workers", "0"), "0 is not in the range 1<=x<=64"),
        (("--defaults", "missing.yaml"), "File 'missing.yaml' does not exist"),
        (("--log-format", "xml"), "'xml' is not one of 'json', 'text'"),
        (("--image", "intel=serve:1"), "write nvidia, amd, cpu before ="),
        (("--resync-seconds", "1"), "1.0 is not in the range x>=10"),
    ],
)
@pytest.mark.usefixtures("started")
def test_a_wrong_option_is_named(arguments: tuple[str, ...], says: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("acelerator: {count: 1}\n", ("defaults.acelerator", "did you mean")),
        # Each endpoint would be refused for what no pod can take.
        (
            "podTemplate: {worker: {metadata: {name: mine}}}\n",
            ("defaults.podTemplate.worker.metadata.name", "remove it"),
        ),
    ],
)
def test_wrong_defaults_are_said_with_their_file(
    text: str, says: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "defaults.yaml"
    file.write_text(text)
    assert main.start(Options(defaults=file, log_format="text")) == 2
    said = capsys.readouterr().err
    for part in ("defaults.yaml", *says):
        assert part in said


def test_the_help_teaches() -> None:
    output = call("--help").output
    for part in (
        "--namespaces team-a,team-b",
        "from a machine that reaches pod IPs",
        "SGLANG_OPERATOR_LOG_LEVEL",
        "Exit status 1",
    ):
        assert part in output


def test_namespaces_are_a_list_without_blanks_or_repetition() -> None:
    assert parse_namespaces(" a, b,,a ") == ("a", "b")
    assert parse_namespaces("") == ()


def test_a_pod_goes_by_its_name_and_other_processes_by_one_of_their_own() -> None:
    assert identity({"POD_NAME": "sglang-operator-7d-x"}) == "sglang-operator-7d-x"
    assert identity({}) != identity({})


def test_every_option_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/operations/operator.md").read_text()
    names = [name for option in main.run.params for name in (*option.opts, *option.secondary_opts)]
    assert len(names) > 10
    assert [name for name in names if name not in page and name != "--leader-election"] == []


def test_what_the_api_server_takes_is_read_however_deep_it_is() -> None:
    """10,000 levels below engine.args of one endpoint would end the watch of all. The limit is a process's own."""
    code = """
import json, sys
from sglang_operator.app import main, options, runtime

async def run(*_):
    json.loads('{"a": ' * 9_990 + "1" + "}" * 9_990)
    return 0

runtime.run = run
sys.exit(main.start(options.Options()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-300:]
