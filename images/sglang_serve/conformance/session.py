"""The order of the checks: one endpoint for most of them, the native server, then an endpoint with adapters and
those over several ranks."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sglang_serve.args import ParallelArgs
from sglang_serve.conformance import checks, config, faults, parity
from sglang_serve.conformance.client import Client
from sglang_serve.conformance.machine import Machine, look
from sglang_serve.conformance.options import Options
from sglang_serve.conformance.outcome import Outcome, Skipped, run
from sglang_serve.conformance.processes import Endpoint, Native, ended
from sglang_serve.conformance.tiny_model import ADAPTERS, adapters_of, experts_of
from sglang_serve.local.ports import free_port

MOST_RANKS = 8
Say = Callable[[str], None]


@dataclass(frozen=True)
class Secrets:
    """The keys of one run, and where the endpoint reads them."""

    directory: Path
    user: str = field(default_factory=lambda: secrets.token_hex(16))
    admin: str = field(default_factory=lambda: secrets.token_hex(16))
    added: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def keys_dir(self) -> Path:
        """One file per key."""
        return self.directory / "keys"

    @property
    def admin_file(self) -> Path:
        """The admin key."""
        return self.directory / "admin-key"

    def write(self) -> None:
        """Put the first two where the endpoint reads them; the third is added while it runs."""
        self.keys_dir.mkdir()
        (self.keys_dir / "user").write_text(self.user)
        self.admin_file.write_text(self.admin)


class Session:
    """All checks of one run; `outcomes` has what became of them."""

    def __init__(self, options: Options, machine: Machine, subject: config.Subject, keys: Secrets, say: Say) -> None:
        self._options = options
        self._machine = machine
        self._subject = subject
        self._keys = keys
        self._say = say
        self._answers: dict[str, parity.Answer] = {}
        self._tokens: list[int] = []  # that one rank said
        self._expert_tokens: list[int] = []  # that one rank of the model with experts said
        self._model_path = Path()
        self._endpoint: Endpoint | None = None  # the last one that was started
        self.outcomes: list[Outcome] = []

    def run(self) -> None:
        """Run what the options ask for. A check that fails does not keep the others from running."""
        self._one_endpoint()
        if not self._options.quick:
            self._check("parity with sglang.launch_server", self._parity)
            self._check("adapters", self._adapters)
            self._check("tensor parallelism", lambda: self._parallel(tensor=self._ranks))
            self._check("pipeline parallelism", lambda: self._halves("pipeline"))
            self._check("data parallelism", lambda: self._halves("data"))
            self._check("expert parallelism", lambda: self._experts(expert=self._ranks))
            self._check("attention data parallelism", lambda: self._experts(attention_data=self._ranks))

    def _check(self, name: str, check: Callable[[], str]) -> bool:
        self._say(f"{name} …")
        outcome = run(name, check, self._last_log)
        self.outcomes.append(outcome)
        self._say(f"{name}: {outcome.status.upper()} after {outcome.seconds:.1f} s: {outcome.detail}")
        return outcome.status == "pass"

    def _one_endpoint(self) -> None:
        keys = self._keys
        keys.write()
        subject = replace(self._subject, keys_dir=keys.keys_dir, admin_key_file=keys.admin_file)
        endpoint = self._start(subject, "endpoint.log")
        client = Client(endpoint.url, keys.user)
        with ended(endpoint):
            if not self._check("start", lambda: self._wait_ready(endpoint)):
                return
            self._check("answers", lambda: checks.answers(client))
            self._check("requests for parity", lambda: self._ask(client))
            self._check("disconnect", lambda: checks.disconnect(client))
            self._check("keys", lambda: checks.keys(endpoint.url, keys.keys_dir, keys.user, keys.admin, keys.added))
            if not self._options.quick:
                start = self._options.start_seconds
                self._check("a lost engine", lambda: faults.replaced(endpoint, client, start))
            self._check("drain", lambda: checks.drain(endpoint, client))
            self._check("nothing left", lambda: checks.nothing_left(endpoint, self._machine.free_bytes, _free_bytes))

    def _start(self, subject: config.Subject, log: str) -> Endpoint:
        self._endpoint = Endpoint(config.runner_spec(subject, free_port()), self._options.output / log)
        return self._endpoint

    def _last_log(self) -> str:
        return self._endpoint.tail() if self._endpoint else ""

    def _wait_ready(self, endpoint: Endpoint) -> str:
        endpoint.wait_ready(self._options.start_seconds, lambda text: self._say(f"  {text}"))
        return "engine loaded and warm, reached through Ray Serve"

    def _ask(self, client: Client) -> str:
        """What the native server is asked later; it shows the path of the model too."""
        self._model_path = Path(client.value("GET", "/server_info")["model_path"])
        self._answers = parity.ask_all(client)
        self._tokens = checks.greedy_tokens(client)
        return f"{len(self._answers)} answers"

    def _parity(self) -> str:
        if not self._answers:
            raise Skipped("there are no answers to compare with")
        port = free_port()
        command = config.native_command(self._subject, self._model_path, port)
        environment = config.native_environment(self._subject, sorted(os.sched_getaffinity(0)))
        environment["TMPDIR"] = str(self._keys.directory)  # SGLang leaves files of its own
        native = Native(command, port, environment, self._options.output / "native.log")
        with ended(native):
            native.wait_ready(self._options.start_seconds)
            return parity.compare(parity.ask_all(Client(native.url)), self._answers)

    def _adapters(self) -> str:
        if self._subject.vendor == "cpu":
            raise Skipped("SGLang has no LoRA on a CPU")
        if self._options.model:
            raise Skipped("there are adapters of the random model only: run it without --model")
        directory = adapters_of(self._random_model)
        found = {name: directory / name for name in ADAPTERS}
        with self._serving(replace(self._subject, adapters=found), "adapters.log") as client:
            return checks.adapters(client, ADAPTERS)

    @property
    def _ranks(self) -> int:
        return self._options.ranks or tensor_ranks(len(self._machine.accelerators))

    def _halves(self, axis: str) -> str:
        """Two stages or copies, each tensor-parallel over half of the ranks."""
        if self._options.model:
            raise Skipped("not every model has it, or fits half of the ranks: run it without --model")
        return self._parallel(**{axis: 2, "tensor": self._ranks // 2})

    def _parallel(self, **axes: int) -> str:
        """An engine with the ranks along these axes."""
        self._require_ranks()
        return self._as_one_rank(self._subject, self._tokens, ParallelArgs(**axes), f"{'-'.join(axes)}-parallel.log")

    def _experts(self, **axes: int) -> str:
        """A model with experts, which all ranks hold together, along these axes inside it."""
        self._require_ranks()
        if self._options.model:
            raise Skipped("not every model has experts: run it without --model")
        subject = replace(self._subject, model=f"file://{experts_of(self._random_model)}")
        self._expert_tokens = self._expert_tokens or self._said_by_one(subject)
        wanted = ParallelArgs(self._ranks, **axes)
        return self._as_one_rank(subject, self._expert_tokens, wanted, f"{'-'.join(axes)}-parallel.log")

    def _require_ranks(self) -> None:
        if self._ranks == 1:
            raise Skipped(f"this machine has {len(self._machine.accelerators) or 'no'} accelerator")

    def _said_by_one(self, subject: config.Subject) -> list[int]:
        with self._serving(subject, "experts.log") as client:
            return checks.greedy_tokens(client)

    def _as_one_rank(self, subject: config.Subject, said: list[int], wanted: ParallelArgs, log: str) -> str:
        with self._serving(replace(subject, parallel=wanted), log) as client:
            return checks.parallel(client, wanted, said)

    @contextmanager
    def _serving(self, subject: config.Subject, log: str) -> Iterator[Client]:
        """A client of an endpoint that is ready, and ended with the block."""
        endpoint = self._start(subject, log)
        with ended(endpoint):
            self._wait_ready(endpoint)
            yield Client(endpoint.url)

    @property
    def _random_model(self) -> Path:
        """Its directory, where the program has made one."""
        return Path(self._subject.model.removeprefix("file://"))


def tensor_ranks(accelerators: int) -> int:
    """The largest power of two that they can form, for attention heads come in powers of two."""
    return 1 << (min(max(accelerators, 1), MOST_RANKS).bit_length() - 1)


def _free_bytes() -> tuple[int, ...]:
    return look().free_bytes
