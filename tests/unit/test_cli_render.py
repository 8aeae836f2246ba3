"""`kubectl sglang render` as a user calls it."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from sglang_operator.api.fields import fields_of
from sglang_operator.api.spec import EndpointSpec
from sglang_operator.cli.installed import _OF_VALUES
from sglang_operator.cli.main import group
from sglang_operator.render.platform import default_images

ROOT = Path(__file__).parents[2]
SMOLLM2 = str(ROOT / "examples" / "smollm2.yaml")
KUBECTL_SGLANG = str(Path(sys.executable).parent / "kubectl-sglang")


def call(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(group, arguments, input=stdin, prog_name="kubectl sglang")


def render(*arguments: str, stdin: str = "") -> Result:
    return call("render", *arguments, stdin=stdin)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """As a process of its own. No kubeconfig, no home: nothing of this machine may be needed."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/nonexistent"}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


class TestOutput:
    def test_yaml(self) -> None:
        done = render("-f", SMOLLM2)
        assert (done.exit_code, done.stderr) == (0, "")
        assert [one["kind"] for one in yaml.safe_load_all(done.stdout)] == ["NetworkPolicy", "RayService", "Service"]

    def test_json_is_a_list_as_kubectl_takes_it(self) -> None:
        listed = json.loads(render("-f", SMOLLM2, "-o", "json").stdout)
        assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
        assert listed["items"] == list(yaml.safe_load_all(render("-f", SMOLLM2).stdout))

    def test_one_kind(self) -> None:
        only = json.loads(render("-f", SMOLLM2, "-o", "json", "--kind", "rayservice").stdout)
        assert only["kind"] == "RayService"
        both = yaml.safe_load_all(render("-f", SMOLLM2, "--kind", "Service", "--kind", "RayService").stdout)
        assert [one["kind"] for one in both] == ["RayService", "Service"]

    def test_a_kind_that_nobody_asked_for_is_no_output(self) -> None:
        done = render("-f", SMOLLM2, "--kind", "Ingress")
        assert (done.exit_code, done.stdout) == (0, "")
        assert json.loads(render("-f", SMOLLM2, "--kind", "Ingress", "-o", "json").stdout)["items"] == []

    def test_platform_defaults(self, tmp_path: Path) -> None:
        defaults = tmp_path / "defaults.yaml"
        defaults.write_text("engine: {image: mirror/image}\naccelerator: {products: [H100]}\n")
        done = render("-f", SMOLLM2, "--defaults", str(defaults))
        plain = [one["metadata"]["name"] for one in yaml.safe_load_all(render("-f", SMOLLM2).stdout)]
        rendered = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
        assert done.exit_code == 0
        assert {"mirror/image"} == set(re.findall(r"image: (\S+)", done.stdout))
        assert rendered["RayService"]["metadata"]["name"] in plain  # defaults name no revision
        assert "warning: smollm2: spec.accelerator.products: the platform's default does not fit" in done.stderr

    def test_the_values_of_the_chart(self, tmp_path: Path) -> None:
        """Whole, as they were given to `helm install`: their defaults, images and KubeRay's namespace."""
        values = tmp_path / "values.yaml"
        images = "images: {cpu: mine:1, nvidia: ''}\nkuberay: {namespace: ray-system}\nreplicas: 1\n"
        values.write_text(images + "defaults: {drainless: 1}\n")
        assert "defaults.drainless: unknown field" in render("-f", SMOLLM2, "--defaults", str(values)).stderr
        values.write_text(images + "defaults: {scheduling: {priorityClassName: inference}}\n")
        done = render("-f", SMOLLM2, "--defaults", str(values))
        assert set(re.findall(r"image: (\S+)", done.stdout)) == {"mine:1"}
        assert "priorityClassName: inference" in done.stdout
        assert "kubernetes.io/metadata.name: ray-system" in done.stdout
        over = render("-f", SMOLLM2, "--defaults", str(values), "--image", "cpu=other:1").stdout
        assert set(re.findall(r"image: (\S+)", over)) == {"other:1"}

    def test_the_keys_of_values_are_the_charts(self) -> None:
        schema = json.loads((ROOT / "charts/sglang-operator/values.schema.json").read_text())
        assert set(schema["properties"]) - set(fields_of(EndpointSpec)) == _OF_VALUES

    def test_values_that_are_misshapen(self, tmp_path: Path) -> None:
        values = tmp_path / "values.yaml"
        values.write_text("kuberay: somewhere\n")
        assert f"{values}: kuberay: must be a mapping" in render("-f", SMOLLM2, "--defaults", str(values)).stderr

    def test_a_vendor_that_is_none(self, tmp_path: Path) -> None:
        values = tmp_path / "values.yaml"
        values.write_text("images: {intel: a:1}\n")
        done = render("-f", SMOLLM2, "--defaults", str(values))
        assert (done.exit_code, done.stdout) == (1, "")
        assert f"{values}: images: must be a mapping with keys among nvidia, amd, cpu" in done.stderr

    def test_images_by_vendor(self) -> None:
        mine = ("--image", "cpu=registry.example.com/serve:1", "--image", "amd=registry.example.com/rocm:1")
        images = {
            name: set(re.findall(r"image: (\S+)", render("-f", str(ROOT / "examples" / name), *mine).stdout))
            for name in ("smollm2.yaml", "amd.yaml", "nvidia.yaml")
        }
        assert images["smollm2.yaml"] == {"registry.example.com/serve:1"}
        assert images["amd.yaml"] == {"registry.example.com/rocm:1"}
        assert images["nvidia.yaml"] == {default_images()["nvidia"]}

    @pytest.mark.parametrize("image", ["cpu=https://registry.example.com/serve:1", "intel=a:1", "cpu=a b", "cpu"])
    def test_what_is_no_image_of_a_vendor(self, image: str) -> None:
        done = render("-f", SMOLLM2, "--image", image)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "is no VENDOR=IMAGE" in done.stderr

    def test_an_image_of_the_endpoint_wins(self) -> None:
        text = Path(SMOLLM2).read_text(encoding="utf-8") + "  engine: {image: mine:1}\n"
        assert (
            "registry.example.com" not in render("-f", "-", "--image", "cpu=registry.example.com/x", stdin=text).stdout
        )

    @pytest.mark.parametrize(
        ("text", "said"),
        [("replica: 2", "defaults.replica: "), (None, "No such file"), ("a: !!int x", "defaults: is no YAML")],
    )
    def test_bad_platform_defaults(self, tmp_path: Path, text: str | None, said: str) -> None:
        defaults = tmp_path / "defaults.yaml"
        if text:
            defaults.write_text(text)
        done = render("-f", SMOLLM2, "--defaults", str(defaults))
        assert (done.exit_code, done.stdout) == (1, "")
        assert str(defaults) in done.stderr
        assert said in done.stderr

    def test_stdin_and_namespace(self) -> None:
        done = render("-f", "-", "-n", "team-a", "--kind", "Service", stdin=Path(SMOLLM2).read_text(encoding="utf-8"))
        assert yaml.safe_load(done.stdout)["metadata"]["namespace"] == "team-a"

    def test_every_example_at_once(self) -> None:
        done = render("-f", str(ROOT / "examples"), "--kind", "Service")
        names = [one["metadata"]["name"] for one in yaml.safe_load_all(done.stdout)]
        assert len(names) == len(list((ROOT / "examples").glob("*.yaml")))

    def test_a_closed_pipe_ends_it_quietly(self) -> None:
        done = run("bash", "-c", f"{KUBECTL_SGLANG} render -f {ROOT}/examples | head -1")
        assert (done.stdout, done.stderr) == ("apiVersion: networking.k8s.io/v1\n", "")

    def test_plugin_and_module_are_the_same_program(self) -> None:
        plugin = run(KUBECTL_SGLANG, "render", "-f", SMOLLM2)
        assert (plugin.returncode, plugin.stderr) == (0, "")
        assert plugin.stdout == run(sys.executable, "-m", "sglang_operator", "render", "-f", SMOLLM2).stdout
        assert plugin.stdout == render("-f", SMOLLM2).stdout


class TestBadInput:
    def test_an_invalid_endpoint_names_file_field_value_and_remedy(self) -> None:
        text = Path(SMOLLM2).read_text(encoding="utf-8").replace("vendor: cpu", "vendor: intel")
        done = render("-f", "-", stdin=text)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("error: -: spec.accelerator.vendor: ")
        assert '"intel"' in done.stderr
        assert "remedy: " in done.stderr

    def test_a_bad_patch_is_a_finding_too(self) -> None:
        text = Path(SMOLLM2).read_text(encoding="utf-8") + "  podTemplate: {worker: {spec: {containers: none}}}\n"
        done = render("-f", "-", stdin=text)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "-: spec.podTemplate.worker.spec.containers: must be a list" in done.stderr

    def test_what_is_wrong_in_every_document_is_found_at_once(self, tmp_path: Path) -> None:
        good = Path(SMOLLM2).read_text(encoding="utf-8")
        patch = "  podTemplate: {worker: {spec: {restartPolicy: Always}}}\n"
        both = [good.replace("name: smollm2", f"name: {name}") + patch for name in "ab"]
        (tmp_path / "two.yaml").write_text("---\n".join(both))
        (tmp_path / "three.yaml").write_text(good.replace("vendor: cpu", "vendor: intel"))
        done = render("-f", str(tmp_path))
        assert (done.exit_code, done.stdout) == (1, "")
        assert re.findall(r"(\w+\.yaml(?:, document \d)?): spec\.(\w+)", done.stderr) == [
            ("three.yaml", "accelerator"),
            ("two.yaml, document 1", "podTemplate"),
            ("two.yaml, document 2", "podTemplate"),
        ]

    def test_one_invalid_endpoint_renders_none(self) -> None:
        done = render("-f", SMOLLM2, "-f", "/nonexistent.yaml")
        assert (done.exit_code, done.stdout) == (1, "")
        assert "/nonexistent.yaml: file: No such file or directory" in done.stderr

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["-f", SMOLLM2, "-x"],
            ["-f", SMOLLM2, "-o", "xml"],
            ["-f", SMOLLM2, "--kind", "Pod"],
            *(["-f", SMOLLM2, "--image", wrong] for wrong in ("serve:1", "intel=serve:1", "cpu=", "cpu=a b")),
        ],
    )
    def test_wrong_usage(self, arguments: list[str]) -> None:
        done = render(*arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "Usage: kubectl sglang render" in done.stderr

    def test_warnings_go_to_stderr(self) -> None:
        text = Path(SMOLLM2).read_text(encoding="utf-8")
        text += "  engine: {image: ours:1, argsCheck: Warn, args: {no_such_argument: 1}}\n"
        done = render("-f", "-", stdin=text)
        assert done.exit_code == 0
        assert "warning: smollm2: spec.engine.args.no_such_argument: " in done.stderr


class TestHelp:
    @pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["render", "--help"]])
    def test_it_has_examples(self, arguments: list[str]) -> None:
        done = call(*arguments)
        assert "kubectl sglang render -f endpoint.yaml" in done.output

    def test_it_does_not_teach_to_upgrade_by_kubectl_apply(self) -> None:
        assert "| kubectl apply" not in call("--help").output
        said = " ".join(call("render", "--help").output.split())
        assert "is for a first look only" in said
        assert "the Service moves to pods that are not there yet" in said

    def test_version(self) -> None:
        done = call("version")
        assert done.exit_code == 0
        assert "SGLang 0." in done.stdout

    def test_unknown_command(self) -> None:
        done = call("rnder")
        assert done.exit_code == 2
        assert "No such command 'rnder'" in done.stderr


def test_render_imports_nothing_heavy() -> None:
    """0.5 s on an idle machine, told by what it imports: kopf alone would take a second."""
    script = (
        "import sys; from sglang_operator.cli.main import group; "
        f"group(['render', '-f', {SMOLLM2!r}], standalone_mode=False); "
        "print('\\n'.join(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = set(done.stderr.split())
    assert {"click", "jinja2", "pydantic", "yaml"} <= imported
    assert not imported & {"kopf", "kubernetes", "ray", "sglang", "torch", "httpx", "aiohttp", "requests", "asyncio"}


def cpu_seconds(*command: str) -> float:
    """The lesser of two runs: this machine has other things to do."""
    return min(_cpu_seconds(command) for _ in range(2))


def _cpu_seconds(command: Sequence[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_render_costs_little_more_than_its_libraries() -> None:
    """A ratio, as machines differ: where the limit was set 0.14 s for the imports and 0.40 s in all, and 0.5 is 3.6."""
    imports = cpu_seconds(sys.executable, "-c", "import click, jinja2, pydantic, yaml")
    assert cpu_seconds(KUBECTL_SGLANG, "render", "-f", SMOLLM2) < 3.6 * imports
