"""The pure parts of `kubectl sglang run`: ports, the runner's JSON object, what is shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from sglang_operator.cli import machine, view
from sglang_operator.cli.local_spec import LOCAL_ENV, Machine, NotLocal, local_spec
from sglang_operator.cli.ports import BadPorts, assign_ports
from sglang_serve import args


def ray_service(env: list[dict[str, Any]] | None = None, uri: str = "hf://org/m", **serve_args: Any) -> dict[str, Any]:
    application = {
        "name": "m",
        "args": args.to_wire(args.ServeArgs(endpoint="m", model=args.ModelArgs(uri, served_name="m"), **serve_args)),
    }
    container = {"name": "worker", "env": env or []}
    return {
        "kind": "RayService",
        "spec": {
            "serveConfigV2": yaml.safe_dump({"applications": [application]}),
            "rayClusterConfig": {"workerGroupSpecs": [{"template": {"spec": {"containers": [container]}}}]},
        },
    }


class TestPorts:
    @pytest.mark.parametrize(
        ("names", "options", "ports"),
        [
            (["a"], [], {"a": 8000}),
            (["a"], ["8123"], {"a": 8123}),
            (["a"], ["a=8123"], {"a": 8123}),
            (["a", "b"], ["b=1", "a=2"], {"a": 2, "b": 1}),
        ],
    )
    def test_assigned(self, names: list[str], options: list[str], ports: dict[str, int]) -> None:
        assert assign_ports(names, options) == ports

    @pytest.mark.parametrize(
        ("names", "options", "said"),
        [
            (["a", "b"], [], "'a' has none: use --port a=8000 --port b=8001"),
            (["a", "b"], ["a=1"], "'b' has none"),
            (["a", "b"], ["a=1", "b=1"], "cannot share"),
            (["a", "b"], ["8000"], "write NAME=PORT"),
            (["a"], ["c=1"], "no such endpoint in the files; they have a"),
            (["a"], ["0"], "1 to 65535"),
            (["a"], ["65536"], "1 to 65535"),
            (["a"], ["http"], "--port http"),
            (["a", "a"], ["a=1"], "two endpoints are named 'a'"),
        ],
    )
    def test_refused(self, names: list[str], options: list[str], said: str) -> None:
        with pytest.raises(BadPorts, match=said.replace("[", r"\[")):
            assign_ports(names, options)


class TestLocalSpec:
    def test_config_is_what_was_rendered(self) -> None:
        service = ray_service()
        spec = local_spec([{"kind": "Service"}, service], Machine(http_port=8123))
        assert spec["serve_config"] == yaml.safe_load(service["spec"]["serveConfigV2"])
        assert (spec["http_host"], spec["http_port"]) == ("127.0.0.1", 8123)

    def test_environment_is_the_pods_but_for_its_mounts(self) -> None:
        env = [{"name": "A", "value": "1"}, {"name": "HF_HOME", "value": "/cache"}, {"name": "E"}]
        mounts = [{"name": name, "value": "/in/the/pod"} for name in (args.ENV_KEYS_DIR, args.ENV_PVC_ROOT)]
        spec = local_spec([ray_service([*env, *mounts])], Machine(model_mirror=Path("/mirror")))
        assert spec["env"] == {"A": "1", "E": "", **LOCAL_ENV, args.ENV_MODEL_MIRROR: "/mirror"}

    def test_value_of_a_secret_comes_from_this_shell(self) -> None:
        token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}
        assert local_spec([ray_service([token])], Machine(environ={"HF_TOKEN": "t"}))["env"]["HF_TOKEN"] == "t"
        with pytest.raises(NotLocal, match=r"'hf' of the cluster(?s:.*)export HF_TOKEN"):
            local_spec([ray_service([token])], Machine())

    @pytest.mark.parametrize(
        ("serve_args", "field", "option", "given"),
        [
            ({"require_keys": True}, "spec.api.keysSecret", "--keys-dir", {"keys_dir": Path("k")}),
            ({"admin": True}, "spec.api.adminKeySecret", "--admin-key-file", {"admin_key_file": Path("a")}),
            ({"uri": "pvc://c/m"}, "pvc://c/m", "--pvc-root", {"pvc_root": Path("p")}),
        ],
    )
    def test_what_a_pod_mounts_needs_a_stand_in(
        self, serve_args: dict[str, Any], field: str, option: str, given: dict[str, Any]
    ) -> None:
        with pytest.raises(NotLocal, match=f"{field}(?s:.*){option}"):
            local_spec([ray_service(**serve_args)], Machine())
        (path,) = given.values()
        assert str(path.absolute()) in local_spec([ray_service(**serve_args)], Machine(**given))["env"].values()


class TestMachine:
    def test_no_engine_environment(self, tmp_path: Path) -> None:
        with pytest.raises(NotLocal, match=r"no engine environment(?s:.*)make engine"):
            machine.engine_python(tmp_path / "python")

    def test_what_is_no_interpreter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(machine.ENV_PYTHON, str(tmp_path))  # the environment, not its Python
        with pytest.raises(NotLocal, match=r"no engine environment(?s:.*)make engine"):
            machine.engine_python(None)

    def test_an_interpreter_in_this_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not one of its name in PATH."""
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\n")
        python.chmod(0o755)
        monkeypatch.chdir(tmp_path)
        assert machine.engine_python(Path("python")) == python

    def test_engine_environment_without_ray(self, tmp_path: Path) -> None:
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\necho ray sglang\n")
        python.chmod(0o755)
        with pytest.raises(NotLocal, match="lacks ray, sglang: "):
            machine.engine_python(python)

    def test_accelerators_are_counted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for node, gpu in enumerate((0, 7, 9)):  # the first is a CPU
            (tmp_path / str(node)).mkdir()
            (tmp_path / str(node) / "gpu_id").write_text(f"{gpu}\n")
        monkeypatch.setitem(machine.DEVICES, "amd", (tmp_path, "*/gpu_id"))
        machine.require_accelerators("amd", 2)
        with pytest.raises(NotLocal, match="3 of vendor 'amd' needed, this machine has 2"):
            machine.require_accelerators("amd", 3)
        machine.require_accelerators("cpu", 64)


class TestView:
    def test_one_line_for_each_step_where_nobody_watches(self) -> None:
        out = io.StringIO()
        shown = view.View(out, "b")
        shown.step("model", "hf://org/m")
        shown.tick()
        shown.step("load", "reading weights")
        shown.step("load", "reading weights")  # another replica
        shown.finish()
        assert out.getvalue() == "b: model    hf://org/m\nb: load     reading weights\n"

    def test_seconds_where_somebody_does(self) -> None:
        out = Terminal()
        shown = view.View(out)
        shown.step("model", "hf://org/m")
        shown.finish()
        assert out.getvalue() == f"{view.CLEAR_LINE}model    hf://org/m  0 s" * 2 + "\n"

    def test_failure_names_remedy_and_log(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("")
        event = {"event": "failed", "reason": "PortInUse", "message": "port 1 is in use", "remedy": "another --port"}
        assert view.failure(event, log) == "error: port 1 is in use (PortInUse)\n  remedy: another --port"
        log.write_text("a line")
        assert view.failure(event, log).endswith(f"\n  log: {log}")

    def test_curl_line(self) -> None:
        chat = args.to_wire(args.ServeArgs(endpoint="m", model=args.ModelArgs("hf://o/m", served_name="m")))
        line = view.curl("http://127.0.0.1:8000", chat, None)
        assert line.startswith("curl http://127.0.0.1:8000/v1/chat/completions")
        assert '"model": "m"' in line
        assert "Authorization" not in line
        keyed = view.curl("http://h", {**chat, "require_keys": True, "task": "embed"}, Path("/k"))
        assert "/v1/embeddings" in keyed
        assert "Bearer $(cat /k/KEY)" in keyed
        spoken = view.curl("http://h", {**chat, "task": "transcribe"}, None)
        assert spoken == "curl http://h/v1/audio/transcriptions -F model=m -F file=@speech.wav"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
