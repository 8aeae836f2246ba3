"""A write is refused at its last moment, however long it took from its start to its first byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from apiserver.passes import configuration_of

from sglang_operator.cluster.api import Api
from sglang_operator.cluster.lease import NotLeaderError

if TYPE_CHECKING:
    from localcluster import ControlPlane

Happens = Callable[[], None]


class Term:
    """Somebody who leads until something happens."""

    def __init__(self) -> None:
        self.is_over = False

    def end(self) -> None:
        self.is_over = True

    def guard(self) -> None:
        if self.is_over:
            raise NotLeaderError("over")


@asynccontextmanager
async def through(control_plane: ControlPlane, guard: Happens, on_connect: Happens) -> AsyncIterator[Api]:
    """The API server behind a port that tells when it is connected to."""
    configuration, connections = await configuration_of(control_plane.kubeconfig), set[asyncio.Task[None]]()
    host, _, port = configuration.host.removeprefix("https://").rpartition(":")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        on_connect()
        back, there = await asyncio.open_connection(host, int(port))
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, there))
            group.create_task(_copy(back, writer))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(forward(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    configuration.host = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    api = Api(configuration, guard)
    try:
        yield api
    finally:
        await api.close()
        server.close()
        await asyncio.gather(*connections)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()
    with suppress(ConnectionError):
        await sink.wait_closed()


CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}}
WRITES: dict[str, Callable[[Api, str], Awaitable[object]]] = {
    "create": lambda api, path: api.create(path.rpartition("/")[0], CONFIG_MAP),
    "apply": lambda api, path: api.apply(path, CONFIG_MAP),
    "delete": lambda api, path: api.delete(path),
}


@pytest.mark.parametrize("verb", WRITES)
def test_nothing_is_written_by_who_stopped_to_lead_while_it_connected(
    control_plane: ControlPlane, namespace: str, verb: str
) -> None:
    path, term = f"/api/v1/namespaces/{namespace}/configmaps/late", Term()

    async def main() -> None:
        async with through(control_plane, term.guard, term.end) as api:
            with pytest.raises(NotLeaderError):
                await WRITES[verb](api, path)
            assert term.is_over, "it did not connect: nothing is shown"

    if verb == "delete":
        control_plane.kubectl.apply([{**CONFIG_MAP, "metadata": {"name": "late", "namespace": namespace}}])
    asyncio.run(main())
    left = control_plane.kubectl.objects("configmap", "late", f"-n{namespace}")
    assert bool(left) == (verb == "delete")
