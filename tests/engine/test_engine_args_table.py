from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "operator" / "sglang_operator" / "api" / "engine_args.json"


def test_committed_table_is_what_the_pinned_sglang_has(engine_python: Path) -> None:
    """A new SGLang adds, drops and retypes arguments; the offline check must know the same ones."""
    script = ROOT / "hack" / "engine_args.py"
    fresh = subprocess.run([engine_python, script, "--print"], capture_output=True, text=True, timeout=240, check=False)
    assert fresh.returncode == 0, fresh.stderr[-2000:]
    changed = set(fresh.stdout.splitlines()) ^ set(TABLE.read_text(encoding="utf-8").splitlines())
    assert not changed, "run `make engine-args` and read the diff:\n" + "\n".join(sorted(changed)[:20])
