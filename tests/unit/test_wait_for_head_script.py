"""What KubeRay's init container of a worker reads before its loop. `ray` is a script here."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from waiting import wait_until

from sglang_operator.render import names

SCRIPT = Path(__file__).parents[2] / "images/sglang_serve/wait_for_head.sh"
BASH = ["/bin/bash", "-c", "--"]  # as KubeRay 1.6 starts both containers
WAITS = """
    SECONDS=0
    while true; do
        if (( SECONDS <= 120 )); then
            if ray health-check --address head:6379 > /dev/null 2>&1; then
                echo "GCS is ready."
                break
            fi
            echo "$SECONDS seconds elapsed: Waiting for GCS to be ready."
        fi
        sleep 5
    done
"""
STARTS = "ulimit -n 1024; ray start --block; echo ended with $?"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a `ray` that does what the file `script` beside it says."""
    fake = tmp_path / "bin" / "ray"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/bash\necho "$*" >> {tmp_path}/asked\n. {tmp_path}/script\n')
    fake.chmod(0o755)
    return {"PATH": f"{fake.parent}:{os.environ['PATH']}", "BASH_ENV": str(SCRIPT)}


@pytest.mark.parametrize("head", ["exit 1", "command sleep 30"], ids=["is not there", "does not answer"])
def test_sigterm_ends_a_worker_that_waits_for_its_head(environment: dict[str, str], tmp_path: Path, head: str) -> None:
    """By its own exit: SIGTERM's default, which ends it here, is none for the first process of a container."""
    (tmp_path / "script").write_text(head)
    with subprocess.Popen([*BASH, WAITS], env=environment, stdout=subprocess.DEVNULL) as shell:
        wait_until((tmp_path / "asked").exists, 30, "the first question")
        shell.send_signal(signal.SIGTERM)
        assert shell.wait(3) == 128 + signal.SIGTERM


def test_a_head_that_is_there_is_found(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "script").write_text("exit 0")
    done = subprocess.run([*BASH, WAITS], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "GCS is ready.\n"


def test_a_worker_that_starts_is_left_alone(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "script").write_text('echo "BASH_ENV=${BASH_ENV-}"; trap -p TERM; exit 7')
    done = subprocess.run([*BASH, STARTS], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "BASH_ENV=\nended with 7\n"


def test_it_is_where_the_rendered_pods_look_for_it() -> None:
    image_root = Path("/opt/sglang-serve")  # COPY images/sglang_serve in the Dockerfiles
    assert image_root / SCRIPT.relative_to(SCRIPT.parents[1]) == Path(names.WAIT_FOR_HEAD_SCRIPT)
