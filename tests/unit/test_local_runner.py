"""The parts of `sglang_serve.local` that need no Ray: its input, ports, the run's directory."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from sglang_serve.args import ENV_STATE_DIR
from sglang_serve.local import ports, rundir
from sglang_serve.local.spec import Failed, Spec, needed_cpus, needed_gpus, read_spec

SPEC: dict[str, Any] = {"serve_config": {"applications": [{"name": "m"}]}, "env": {}, "http_port": 8001}


class TestSpec:
    def test_read(self) -> None:
        spec = read_spec(json.dumps(SPEC))
        assert (spec.application["name"], spec.url) == ("m", "http://127.0.0.1:8001")

    def test_all_interfaces_are_reached_on_loopback(self) -> None:
        assert Spec({}, {}, http_port=1, http_host="0.0.0.0").url == "http://127.0.0.1:1"

    @pytest.mark.parametrize("line", ["", "{}", "[]", '{"serve_config": {}, "env": {}, "colour": 1}'])
    def test_refused(self, line: str) -> None:
        with pytest.raises(Failed, match="not the JSON object"):
            read_spec(line)

    @pytest.mark.parametrize(
        ("deployment", "cpus", "gpus"),
        [
            ({}, 1, 0),
            ({"num_replicas": 2, "ray_actor_options": {"num_cpus": 3, "num_gpus": 1}}, 6, 2),
            ({"autoscaling_config": {"max_replicas": 2}, "ray_actor_options": {"num_cpus": 0.5}}, 1, 0),
            ({"placement_group_bundles": [{"CPU": 2, "GPU": 4}, {"CPU": 1}]}, 3, 4),
        ],
    )
    def test_needs(self, deployment: dict[str, Any], cpus: float, gpus: float) -> None:
        application = {"deployments": [deployment]}
        assert (needed_cpus(application), needed_gpus(application)) == (cpus, gpus)


class TestPorts:
    def test_taken_port_names_its_owner(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(Failed, match=rf"pid {os.getpid()}\)"):
            ports.require_free("127.0.0.1", server.getsockname()[1])

    def test_foreign_address(self) -> None:
        with pytest.raises(Failed) as failed:
            ports.require_free("192.0.2.1", 8000)  # a documentation address, nobody's own
        assert failed.value.reason == "PortUnusable"

    def test_free_ports_differ_and_are_free(self) -> None:
        found = ports.free_ports(4)
        assert len(set(found)) == 4
        ports.require_free("127.0.0.1", found[0])

    def test_free_ports_are_none_that_the_kernel_gives_out_before_they_are_used(self) -> None:
        first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
        assert not set(range(first, last + 1)) & set(ports.free_ports(100))

    def test_a_port_in_use_is_not_free(self, monkeypatch: pytest.MonkeyPatch) -> None:
        port = ports.free_port()
        monkeypatch.setattr(ports, "FIRST", port)
        monkeypatch.setattr(ports, "LAST", port)
        with socket.create_server(("127.0.0.1", port)), pytest.raises(Failed, match="1 free ports are needed"):
            ports.free_port()


class TestRunningRay:
    @pytest.fixture(autouse=True)
    def _nowhere(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(ports, "CURRENT_CLUSTER", tmp_path / "ray_current_cluster")

    def test_none(self) -> None:
        assert ports.running_ray() is None

    def test_address_of_one_that_is_gone(self) -> None:
        ports.CURRENT_CLUSTER.write_text(f"127.0.0.1:{ports.free_ports(1)[0]}")
        assert ports.running_ray() is None

    @pytest.mark.parametrize("address", ["ray://host", "127.0.0.1:http", "127.0.0.1:1"])
    def test_an_address_that_was_asked_for_and_cannot_be_used(
        self, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(Failed, match=f"RAY_ADDRESS={address}: no Ray listens there"):
            ports.running_ray()

    def test_whichever_is_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        assert ports.running_ray() is None

    def test_one_that_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            ports.CURRENT_CLUSTER.write_text(f"{address}\n")
            assert ports.running_ray() == address

    @pytest.mark.parametrize("whose", ["another user's", "a link"])
    def test_one_that_somebody_else_wrote_down_is_not_believed(
        self, whose: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """It would be sent this user's tokens."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            written = tmp_path / "written"
            written.write_text(f"127.0.0.1:{server.getsockname()[1]}\n")
            if whose == "a link":
                ports.CURRENT_CLUSTER.symlink_to(written)
            else:
                written.rename(ports.CURRENT_CLUSTER)
                mine = ports.CURRENT_CLUSTER.stat()
                theirs = os.stat_result((*mine[:4], mine.st_uid + 4711, *mine[5:]))
                monkeypatch.setattr(Path, "lstat", lambda _: theirs)
            assert ports.running_ray() is None


class TestRunDirectory:
    @pytest.fixture(autouse=True)
    def _root(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(rundir, "ROOT", tmp_path)

    def test_removed_at_the_end(self) -> None:
        with rundir.run_directory() as run:
            (run / "file").touch()
        assert list(rundir.ROOT.iterdir()) == []

    def test_those_of_the_dead_are_swept_those_of_the_living_kept(self, tmp_path: Path) -> None:
        dead = tmp_path / f"{rundir.PREFIX}dead"
        dead.mkdir()
        (dead / "lock").touch()
        with rundir.run_directory() as first, rundir.run_directory() as second:
            assert set(tmp_path.iterdir()) == {first, second}

    def test_what_others_planted_is_left_alone(self, tmp_path: Path) -> None:
        """Everybody may write into /tmp: links lead to this user's files."""
        precious, important = tmp_path / "precious", tmp_path / "important"
        (precious / "documents").mkdir(parents=True)
        important.write_text("content")
        for name, mode in (("open", 0o777), ("closed", 0o700)):
            planted = tmp_path / f"{rundir.PREFIX}{name}"
            planted.mkdir()
            planted.chmod(mode)
            (planted / rundir.STATE).symlink_to(precious)
        (tmp_path / f"{rundir.PREFIX}open" / "lock").symlink_to(important)
        (tmp_path / f"{rundir.PREFIX}link").symlink_to(precious)
        (precious / "lock").touch()
        rundir.sweep()
        assert important.read_text() == "content"
        assert (precious / "documents").is_dir()

    def test_what_a_killed_replica_left_elsewhere_goes_too(self, tmp_path: Path) -> None:
        shared = tmp_path / "in-shared-memory"
        shared.touch()
        with rundir.run_directory() as run:
            killed = Path(rundir.run_environment(run)[ENV_STATE_DIR]) / "killed"
            killed.mkdir()
            (killed / "shared-memory").write_text(f"{shared}\n")
        assert list(tmp_path.iterdir()) == []

    def test_every_path_lies_in_it(self) -> None:
        with rundir.run_directory() as run:
            settings = {**rundir.run_environment(run), **rundir.own_ray_environment(run)}
            paths = [value for value in settings.values() if value.startswith("/")]
            assert settings[ENV_STATE_DIR] in paths
            assert all(Path(path).is_relative_to(run) for path in paths)
            assert settings["RAY_LOG_TO_STDERR"] == "1", "cluster.py has no driver to relay it"
            numbers = [settings[name] for name in rundir.PORT_SETTINGS]
            assert len(set(numbers)) == len(numbers)
