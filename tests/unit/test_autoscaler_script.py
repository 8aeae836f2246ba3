"""What stands between KubeRay's command line and Ray's autoscaler in the head's pod. `ray` is a script here."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sglang_operator.render import names

SCRIPT = Path(__file__).parents[2] / "images/sglang_serve/autoscaler.sh"
# As KubeRay 1.6 words it.
COMMAND = ["/bin/bash", "-c", "--", "ray kuberay-autoscaler --cluster-name c"]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Path]:
    """A directory whose `starts` has a line for each start of `ray`: the first fails, the second stays."""
    fake = tmp_path / "bin" / "ray"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/bash\n"
        f'echo "$* ${{BASH_ENV-}}" >> {tmp_path}/starts\n'
        f"[ $(wc -l < {tmp_path}/starts) = 1 ] && exit 1\n"
        "exec sleep 300\n"
    )
    fake.chmod(0o755)
    env = {"PATH": f"{fake.parent}:{os.environ['PATH']}", "BASH_ENV": str(SCRIPT)}
    with subprocess.Popen(COMMAND, env=env, stderr=subprocess.PIPE, text=True) as shell:
        (tmp_path / "pid").write_text(str(shell.pid))
        yield tmp_path
        shell.send_signal(signal.SIGTERM)
        assert shell.wait(10) == 128 + signal.SIGTERM, "KubeRay's pods are gone at once, not after their grace period"
        assert shell.stderr
        assert "ended with 1; another one is started" in shell.stderr.read()


def test_one_that_ends_is_started_again_and_hears_sigterm(started: Path) -> None:
    deadline = time.monotonic() + 30
    while (lines := read(started / "starts")).count("\n") < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lines == "kuberay-autoscaler --cluster-name c \n" * 2, "its own shells do not read the script"


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_it_is_where_the_rendered_pods_look_for_it() -> None:
    image_root = Path("/opt/sglang-serve")  # COPY images/sglang_serve in the Dockerfiles
    assert image_root / SCRIPT.relative_to(SCRIPT.parents[1]) == Path(names.AUTOSCALER_SCRIPT)
