"""A client that moves from `python -m sglang.launch_server` to an endpoint must not notice.

The same requests go to both, with the same model and arguments, first to one, then to the other; every difference that
docs/reference/parity.md does not name fails. Each way of being called (without key, with key, with key and admin key)
starts both servers once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from engine.apps import ServeApp, endpoint
from engine.clients import requests_in_engine
from engine.parity import allowed
from engine.parity.ask import Answer, Ask, Keys, connect, load
from engine.parity.compare import is_unsteady
from engine.parity.coverage import NOT_SENT, routes
from engine.parity.native import NativeServer
from waiting import wait_until

DOCUMENTED = Path(__file__).parents[2] / "docs" / "reference" / "parity.md"
ENGINE = {
    "max_total_tokens": 8192,
    "max_running_requests": 32,
    "sleep_on_idle": True,
    "context_length": 2048,
    "random_seed": 1,
    "tool_call_parser": "qwen25",
}

pytestmark = pytest.mark.timeout(1800)  # two engine starts, two hundred requests and long streams are set-up of a test

TRIES = 20  # repetitions of a stream: on a busy machine, of some streams each second one is another
NATIVE_TRIES = 60  # of native's stream alone, before it is said not to change


@dataclass(frozen=True)
class Mode:
    """One way to start and to call both servers."""

    files: tuple[str, ...]
    keys: Keys = field(default_factory=Keys)
    model: str = "tiny"
    task: str = "generate"
    api: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of both engines, beside ENGINE."""

    @property
    def asks(self) -> list[Ask]:
        return [ask for name in self.files for ask in load(name)]


KEYS = Keys(api="parity-api-key", admin="parity-admin-key")
WITH_KEY = {"keysSecret": {"name": "keys"}}
WITH_ADMIN = {**WITH_KEY, "adminKeySecret": {"name": "admin", "key": "admin"}}
MODES = {
    "open": Mode(("generate", "native", "admin")),
    "key": Mode(("auth", "generate", "native", "admin"), Keys(api=KEYS.api), api=WITH_KEY),
    "admin": Mode(("auth", "generate", "native", "admin"), KEYS, api=WITH_ADMIN),
    "embed": Mode(("embed",), task="embed"),
    "metrics": Mode(("generate", "metrics"), engine={"enable_metrics": True}),
    "smollm2": Mode(("smollm2",), model="smollm2"),
}
SHORT = {"open"}  # two minutes; access is what test_access.py is about, embeddings are in test_tasks.py
EACH_MODE = pytest.mark.parametrize(
    "exchange",
    [pytest.param(name, marks=[] if name in SHORT else [pytest.mark.long]) for name in MODES],
    indirect=True,
)


@dataclass(frozen=True)
class Death:
    """Of the only replica: what the request was answered that it died under, and the first one afterwards."""

    under: Answer
    after: Answer


@dataclass(frozen=True)
class Exchange:
    """What both answered in one mode."""

    name: str
    mode: Mode
    native: dict[str, Answer]
    served: dict[str, Answer]
    unsteady: list[str] = field(default_factory=list)
    death: list[Death] = field(default_factory=list)

    def compared(self, ask: Ask) -> tuple[list[str], set[str]]:
        """The differences that nothing allows, and the names of the allowed ones that were met."""
        return allowed.unexplained(ask, self.name, self.native[ask.name], self.served[ask.name])


MET: dict[str, set[str]] = {}  # by mode: allowed differences that were really seen


@pytest.fixture(scope="module")
def exchange(request: pytest.FixtureRequest, engine_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Exchange:
    mode = MODES[request.param]
    model: Path = request.getfixturevalue("smollm2" if mode.model == "smollm2" else "tiny_model")
    native = NativeServer(engine_python, model, _native_arguments(mode))
    secrets = _write_keys(tmp_path_factory.mktemp("secrets"), mode.keys)
    manifest = endpoint(
        model, mode.model, task=mode.task, api=dict(mode.api), engine={"args": {**ENGINE, **mode.engine}}
    )
    served = ServeApp(manifest, engine_python, keys_dir=secrets / "keys", admin_key_file=secrets / "admin")
    with _both_started(native, served, at_once=mode.model == "tiny"):
        result = Exchange(request.param, mode, _ask_all(native.url, mode), _ask_all(served.url, mode))
        _ask_streams_again(result, native.url, served.url)
        if allowed.FRONT.expected(mode.asks[0], result.name):
            result.death.append(_ask_while_the_replica_dies(served, mode))
    return result


@contextmanager
def _both_started(native: NativeServer, served: ServeApp, *, at_once: bool) -> Iterator[None]:
    """Both at once, if the model is small: each start waits for one process after the other, and leaves a core idle.

    Not so a larger one, which computes with a thread for each core while it starts.
    """
    with ExitStack() as stack:
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(stack.enter_context, native)
            if not at_once:
                starting.result()
            stack.enter_context(served)
            starting.result()
        yield


def _ask_streams_again(exchange: Exchange, native_url: str, served_url: str) -> None:
    """How tokens fall into events is chance, and two streams of native differ too: only what stays is a difference."""
    with connect(native_url) as native, connect(served_url) as served:
        for ask in (ask for ask in exchange.mode.asks if ask.stream):
            natives = [exchange.native[ask.name]]
            while exchange.compared(ask)[0] and len(natives) <= TRIES:
                natives.append(ask.send(native, exchange.mode.keys))
                exchange.native[ask.name] = natives[-1]
                exchange.served[ask.name] = ask.send(served, exchange.mode.keys)
            while is_unsteady(ask, natives) and len(natives) < NATIVE_TRIES:
                natives.append(ask.send(native, exchange.mode.keys))
            if is_unsteady(ask, natives):
                exchange.unsteady.append(ask.name)


def _ask_while_the_replica_dies(served: ServeApp, mode: Mode) -> Death:
    """The only replica is killed under a request that HAProxy cannot repeat: it keeps no copy of more than 128 KiB."""
    body = {"model": mode.model, "prompt": "Work", "max_tokens": 2000, "ignore_eos": True, "user": "x" * 2**18}
    large = Ask("large", "/v1/completions", json=body)
    with connect(served.url) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(large.send, client, mode.keys)
        wait_until(lambda: requests_in_engine(served.url) == 1, 30, "the large request runs")
        (replica,) = served.find("ServeReplica")
        replica.kill()
        return Death(under=answer.result(), after=mode.asks[0].send(client, mode.keys))


def _native_arguments(mode: Mode) -> dict[str, Any]:
    keys = {"api_key": mode.keys.api, "admin_api_key": mode.keys.admin}
    own = {"served_model_name": mode.model, "is_embedding": mode.task == "embed"}
    return {**ENGINE, **mode.engine, **own, **{name: value for name, value in keys.items() if value}}


def _ask_all(url: str, mode: Mode) -> dict[str, Answer]:
    with connect(url) as client:
        return {ask.name: ask.send(client, mode.keys) for ask in mode.asks}


def _write_keys(directory: Path, keys: Keys) -> Path:
    (directory / "keys").mkdir()
    (directory / "keys" / "parity").write_text(keys.api)
    (directory / "admin").write_text(keys.admin)
    return directory


@EACH_MODE
def test_answers_as_native_does(exchange: Exchange, subtests: pytest.Subtests) -> None:
    for ask in exchange.mode.asks:
        found, met = exchange.compared(ask)
        MET.setdefault(exchange.name, set()).update(met)
        with subtests.test(ask.name):
            assert not found, "\n".join(found)
            assert ask.contains.encode() in exchange.served[ask.name].body
    for death in exchange.death:
        with subtests.test("without a replica"):
            ask = exchange.mode.asks[0]
            assert allowed.FRONT.holds(death.under), death.under
            assert allowed.unexplained(ask, exchange.name, exchange.native[ask.name], death.after)[0] == []
            MET[exchange.name].update({allowed.FRONT.name, allowed.HELD})


@EACH_MODE
def test_a_stream_differs_by_chance_only(exchange: Exchange) -> None:
    """Where native's stream does not change from one time to the next, ours may not either."""
    assert exchange.unsteady == []


@EACH_MODE
def test_no_answer_holds_a_key(exchange: Exchange) -> None:
    keys = [key.encode() for key in (KEYS.api, KEYS.admin)]
    leaks = [name for name, answer in exchange.served.items() if any(key in answer.body for key in keys)]
    assert leaks == []


def test_every_route_is_asked_or_has_a_reason(engine_python: Path) -> None:
    asked = {(ask.verb, ask.path) for mode in MODES.values() for ask in mode.asks}
    unasked = {route.path for route in routes(engine_python) if route.unasked(asked)}
    assert unasked == NOT_SENT.keys(), "add a request to tests/engine/parity/requests, or a reason to coverage.py"


def test_the_allowed_differences_are_the_documented_ones() -> None:
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", DOCUMENTED.read_text(), re.MULTILINE))
    assert documented == allowed.NAMES | allowed.SHOWN_ELSEWHERE.keys()


def test_repetitions_are_as_documented() -> None:
    assert re.findall(r"up to (\d+) times", DOCUMENTED.read_text()) == [str(TRIES), str(NATIVE_TRIES)]


@pytest.mark.long
def test_every_allowed_difference_was_met() -> None:
    """One that is no longer there has no place in the table."""
    if missing := MODES.keys() - MET.keys():
        pytest.skip(f"modes that did not run in this process: {', '.join(sorted(missing))}")
    assert set().union(*MET.values()) == allowed.NAMES
