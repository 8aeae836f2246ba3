"""Hung, busy, paused, dead: what is taken for which."""

from __future__ import annotations

import asyncio
import os
import queue
import subprocess
import sys
import time

import psutil
import pytest

from sglang_serve import health


class Engine:
    """As it looks from outside."""

    def __init__(self, *, answers: bool = False, busy: bool = False, paused: bool = False) -> None:
        self.pids: tuple[int, ...] = ()
        self.is_paused = paused
        self.has_order = False
        self.heard = 0.0
        self._answers = answers
        self._busy = busy
        self.was_cancelled = False
        self.asked = asyncio.Event()

    @property
    def last_heard(self) -> float:
        return time.time() if self._busy else self.heard

    async def answer(self) -> None:
        self.asked.set()
        try:
            if not self._answers:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise

    warm_up = answer


@pytest.mark.parametrize("engine", [Engine(answers=True), Engine(busy=True), Engine(paused=True)])
def test_an_engine_that_answers_or_sends_or_is_told_to_be_silent_is_healthy(engine: Engine) -> None:
    asyncio.run(health.Watch(engine).require_answer(seconds=0.5))


def test_a_silent_engine_is_not_healthy() -> None:
    engine = Engine()
    with pytest.raises(health.Unhealthy, match="sent nothing"):
        asyncio.run(health.Watch(engine).require_answer(seconds=0.3))
    assert engine.was_cancelled


def test_a_busy_engine_is_not_asked_to_the_end() -> None:
    engine = Engine(busy=True)
    asyncio.run(health.Watch(engine).require_answer())


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_engine_that_takes_new_weights_may_be_silent_but_not_for_ever() -> None:
    engine, clock = Engine(), Clock()
    watch = health.Watch(engine, clock)

    def ask() -> None:
        asyncio.run(watch.require_answer(seconds=0.1))

    engine.has_order = True
    ask()
    clock.now += health.UPDATE_SECONDS - 1
    ask()
    clock.now += 1
    with pytest.raises(health.Unhealthy, match="sent nothing"):
        ask()
    engine.heard = clock.now  # that one is over, and another has begun
    ask()
    engine.has_order = False
    clock.now += health.UPDATE_SECONDS
    with pytest.raises(health.Unhealthy):
        ask()
    engine.has_order = True
    ask()


def test_an_update_that_begins_under_the_question_is_seen() -> None:
    async def main() -> None:
        engine = Engine()
        asked = asyncio.create_task(health.Watch(engine).require_answer(seconds=10))
        await engine.asked.wait()
        engine.has_order = True
        await asyncio.wait_for(asked, 5)
        assert engine.was_cancelled

    asyncio.run(main())


def test_warm_up_needs_the_answer_itself() -> None:
    with pytest.raises(health.Unhealthy, match="first request"):
        asyncio.run(health.require_warm_up(Engine(busy=True), seconds=0.3))
    asyncio.run(health.require_warm_up(Engine(answers=True)))


def child() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_warm_up_ends_when_a_process_does() -> None:
    with child() as process:
        engine = Engine()
        engine.pids = (process.pid,)
        process.kill()
        with pytest.raises(health.Unhealthy, match=f"pid {process.pid}"):
            asyncio.run(health.require_warm_up(engine))


def test_the_exit_of_any_process_is_told_at_once() -> None:
    told: queue.Queue[int] = queue.Queue()
    with child() as first, child() as second:
        try:
            health.on_exit((first.pid, second.pid), told.put)
            with pytest.raises(queue.Empty):
                told.get(timeout=0.2)
            second.kill()
            assert told.get(timeout=5) == second.pid
        finally:
            first.kill()


def test_a_process_that_has_long_gone_is_told_too() -> None:
    with child() as process:
        process.kill()
        process.wait()
    told: queue.Queue[int] = queue.Queue()
    health.on_exit((process.pid,), told.put)
    assert told.get(timeout=5) == process.pid
    assert health.has_ended(process.pid)


def test_sigquit_ends_no_replica_but_its_children() -> None:
    script = "import os, signal, threading; from sglang_serve import health\n"
    script += "signal.signal(signal.SIGQUIT, signal.SIG_DFL)\n"  # a shell may have let us ignore it already
    script += "t = threading.Thread(target=health.survive_quit_signals); t.start(); t.join()\n"
    script += "os.kill(os.getpid(), signal.SIGQUIT); print('alive', flush=True)\n"
    script += "import subprocess; child = subprocess.Popen(['sleep', '60'])\n"
    script += "child.send_signal(signal.SIGQUIT); print(child.wait(30))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": "images"}, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, [b"alive", b"-3"]), "or a child outlives what it should die of"


@pytest.mark.parametrize(("work", "code"), [("print('done')", 0), ("raise OSError('the link is down')", 1)])
def test_a_process_ends_with_its_work_whatever_threads_it_has_left(work: str, code: int) -> None:
    program = (
        "import threading\n"
        "from sglang_serve.health import end_process_after\n"
        "def work():\n"
        "    threading.Thread(target=threading.Event().wait).start()\n"
        f"    {work}\n"
        "end_process_after(work)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code, done.stderr
    assert "done" in done.stdout or "the link is down" in done.stderr


def test_a_child_that_ends_by_itself_keeps_no_other_from_being_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    class Child:
        def __init__(self, gone: bool) -> None:
            self.gone, self.pid = gone, 0

        def kill(self) -> None:
            if self.gone:
                raise psutil.NoSuchProcess(self.pid)
            self.gone = True

        def wait(self, timeout: float | None = None) -> int:
            return 0

    children = [Child(gone=True), Child(gone=False)]
    monkeypatch.setattr(psutil.Process, "children", lambda *_, **__: children)
    health.kill_children()
    assert all(child.gone for child in children)
