"""The API server as JSON over REST: no models, no cache. The only way in which the operator talks to the cluster.

Plain dicts, because typed models would drop fields that this client version does not know and cost ten times the CPU.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from sglang_operator.cluster.guarded import GuardedBody

FIELD_MANAGER: Final = "sglang-operator"
APPLY: Final = "application/apply-patch+yaml"  # without it the server takes an apply for a merge patch
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
TIMEOUT_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 2.0
PAGE: Final = 500  # items of one answer to a list
CONNECTIONS: Final = 32
USER_AGENT: Final = "sglang-operator"

# The server says no more of it than this; what it refuses by the schema has the name of the object in front.
_FAILED_TEST: Final = "the server rejected our request due to an error in our request"
_OTHER_UID: Final = "metadata.uid: Invalid value"  # of an apply to what was made again under the same name
_NO_DRY_RUN: Final = "does not support dry run"  # apiserver/pkg/admission/plugin/webhook
_DENIED: Final = "denied the request"  # apiserver/pkg/admission/plugin/webhook/errors, which makes 400 of no status
_NO_QUOTA: Final = "exceeded quota"  # apiserver/pkg/admission/plugin/resourcequota
_NO_WEBHOOK: Final = "failed calling webhook"  # apiserver/pkg/admission/plugin/webhook
# Of a server-side apply, with 500: a field that the schema does not have, which the server drops from what is POSTed.
_UNKNOWN_FIELD: Final = "field not declared in schema"
# In the words of the server's authorizer, and of the check who may make objects that block their owner's deletion.
_NO_RIGHT: Final = re.compile(r"\bcannot (\w+ resource\b|set blockOwnerDeletion)")
GRANT: Final = (
    "grant it to the operator's role: helm upgrade of its chart does, unless rbac.create is false; no restart is needed"
)

Object = dict[str, Any]
Objects = list[Object]
Observe = Callable[[str, str, int], None]


class ApiError(Exception):
    """The API server refused, or could not be asked: `status` is the HTTP status, 0 without an answer to be read."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_absent(self) -> bool:
        """No such object, or no such kind."""
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def is_conflict(self) -> bool:
        """It exists already, or is not what was read any more: the next pass reads it anew."""
        is_another = self.status == HTTPStatus.UNPROCESSABLE_ENTITY and _OTHER_UID in self.message
        return is_another or self.status == HTTPStatus.CONFLICT

    @property
    def is_failed_test(self) -> bool:
        """A `test` of a JSON patch did not hold. What is wrong by its schema is named in the message instead."""
        return self.status == HTTPStatus.UNPROCESSABLE_ENTITY and self.message.startswith(_FAILED_TEST)

    @property
    def is_forbidden(self) -> bool:
        """A right of the operator is missing. Quotas and policies refuse with the same status."""
        return self.status == HTTPStatus.FORBIDDEN and bool(_NO_RIGHT.search(self.message))

    @property
    def advice(self) -> str:
        """What to do about a missing right, "" if it is something else."""
        return f"; {GRANT}" if self.is_forbidden else ""

    @property
    def is_passing(self) -> bool:
        """It may go by itself: no answer, a conflict, too many requests, or an error of the server."""
        if self.is_of_any_write or self.is_conflict:
            return True
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR and _UNKNOWN_FIELD not in self.message

    @property
    def is_final(self) -> bool:
        """No other try fares better before a person changes something: the object is none that this cluster takes."""
        is_refused = self.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY) and not self.is_conflict
        is_open = self.is_untried or self.is_failed_test or self.is_denied
        return _UNKNOWN_FIELD in self.message or (is_refused and not is_open)

    @property
    def is_denied(self) -> bool:
        """By a webhook that gives no status of its own: it may go by other objects, or by a registry that is away."""
        return self.status == HTTPStatus.BAD_REQUEST and _DENIED in self.message

    @property
    def is_of_webhook(self) -> bool:
        """A webhook that must be asked does not answer. It may soon, or somebody has to start it."""
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR and _NO_WEBHOOK in self.message

    @property
    def is_untried(self) -> bool:
        """A webhook that has effects of its own cannot be asked what it would say, so nobody knows."""
        return self.status == HTTPStatus.BAD_REQUEST and _NO_DRY_RUN in self.message

    @property
    def is_of_quota(self) -> bool:
        """A ResourceQuota is used up, perhaps by what is to go."""
        return self.status == HTTPStatus.FORBIDDEN and _NO_QUOTA in self.message

    @property
    def is_of_any_write(self) -> bool:
        """Another write would fare no better now: no answer, or too many requests."""
        return self.status in (0, HTTPStatus.TOO_MANY_REQUESTS)


def no_guard() -> None:
    """Writes are always allowed."""


def _no_observer(_verb: str, _path: str, _status: int) -> None:
    """Nobody counts."""


def _whole(item: Object) -> Object:
    """Nothing is left out."""
    return item


class Api:
    """Requests with the credentials of `configuration`. `guard` is called right before the bytes of a write leave
    and raises to refuse it; `observe(verb, path, status)` after each request. Every method raises ApiError."""

    def __init__(
        self, configuration: Configuration, guard: Callable[[], None] = no_guard, observe: Observe = _no_observer
    ) -> None:
        self._client = ApiClient(configuration)  # for its credentials, which it renews
        self._session: aiohttp.ClientSession | None = None
        self._guard = guard
        self._observe = observe

    async def close(self) -> None:
        """End the connections."""
        if self._session:
            await self._session.close()
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, path: str) -> Object:
        """One object, as it is now."""
        return _object(await self._send("GET", path))

    async def find(self, path: str) -> Object | None:
        """One object, or None if it, or its kind, is not there."""
        try:
            return await self.get(path)
        except ApiError as error:
            if error.is_absent:
                return None
            raise

    async def list(self, path: str, labels: str = "", keep: Callable[[Object], Object] = _whole) -> Objects:
        """All objects of a kind that carry `labels`, or what `keep` keeps of each while its page is read; a list of a
        kind that the cluster does not have raises 404."""
        return [keep(item) async for page in self._pages(path, labels) for item in page]

    async def text(self, path: str, **query: str) -> str:
        """An answer that is no JSON: a log."""
        return (await self._send("GET", f"{path}?{urlencode(query)}")).decode(errors="replace")

    async def create(
        self, path: str, body: Mapping[str, Any], *, strict: bool = False, dry_run: bool = False
    ) -> Object:
        """POST to a collection. 409 if the name is taken; 400 if `strict` and there is a field that the schema does not
        have, which is else dropped without a word. `dry_run`: all that the API server checks, and nothing is made."""
        query = f"fieldManager={FIELD_MANAGER}{'&fieldValidation=Strict' if strict else ''}"
        query += "&dryRun=All" if dry_run else ""
        return await self._write("POST", f"{path}?{query}", body, "application/json")

    async def apply(self, path: str, body: Mapping[str, Any]) -> Object:
        """Server-side apply: creates it, or takes over the fields that `body` names."""
        return await self._write("PATCH", f"{path}?fieldManager={FIELD_MANAGER}&force=true", body, APPLY)

    async def patch(self, path: str, body: Any, content_type: str = MERGE_PATCH) -> Object:
        """JSON patch or merge patch, by `content_type`."""
        return await self._write("PATCH", f"{path}?fieldManager={FIELD_MANAGER}", body, content_type)

    async def replace(self, path: str, body: Mapping[str, Any]) -> Object:
        """PUT: refused with 409 unless the object is still at the resourceVersion in `body`."""
        return await self._write("PUT", f"{path}?fieldManager={FIELD_MANAGER}", body, "application/json")

    async def delete(self, path: str, uid: str = "", version: str = "", *, by_force: bool = False) -> None:
        """Delete in the background: what it owns follows. With `uid`, only that very object, with `version` only as it
        was read; one gone is fine. `by_force`: a pod whose kubelet is not waited for."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        body |= {"gracePeriodSeconds": 0} if by_force else {}
        fence = {"uid": uid, "resourceVersion": version}
        if uid or version:
            body["preconditions"] = {key: value for key, value in fence.items() if value}
        try:
            await self._write("DELETE", path, body, "application/json")
        except ApiError as error:
            if not error.is_absent:
                raise

    async def _pages(self, path: str, labels: str) -> AsyncIterator[Objects]:
        query = {"limit": str(PAGE), **({"labelSelector": labels} if labels else {})}
        while query:
            answer = _object(await self._send("GET", f"{path}?{urlencode(query)}"))
            yield answer.get("items") or []
            token = answer.get("metadata", {}).get("continue")
            query = {**query, "continue": token} if token else {}

    async def _write(self, verb: str, path: str, body: Any, content_type: str) -> Object:
        return _object(await self._send(verb, path, json.dumps(body, separators=(",", ":")).encode(), content_type))

    async def _send(self, verb: str, path: str, body: bytes | None = None, content_type: str = "") -> bytes:
        status = 0
        try:
            status, answer = await self._request(verb, path, body, content_type)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, type(error).__name__, f"the API server cannot be asked: {error}") from error
        finally:
            self._observe(verb, path.partition("?")[0], status)
        if status >= HTTPStatus.BAD_REQUEST:
            raise _error(status, answer)
        return answer

    async def _request(self, verb: str, path: str, body: bytes | None, content_type: str) -> tuple[int, bytes]:
        headers = {"Accept": "application/json"}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, verb, body)
        url = f"{self._client.configuration.host}{path}"
        guarded = None if body is None else GuardedBody(body, self._guard, content_type)
        try:
            async with self._connections().request(verb, url, data=guarded, headers=headers) as answer:
                return answer.status, await answer.read()
        except aiohttp.ClientError:
            if guarded and guarded.refusal:
                raise guarded.refusal from None
            raise

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._client.rest_client.ssl_context, limit=CONNECTIONS),
                # Not `connect`, which counts the wait for one of the connections, too: a slow server is no dead one.
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, sock_connect=CONNECT_SECONDS),
                headers={"User-Agent": USER_AGENT},
                trust_env=_needs_proxy(self._client.configuration.host),
            )
        return self._session


def _needs_proxy(url: str) -> bool:
    """Whether the environment names a proxy for it. aiohttp would look that up, and read ~/.netrc, for each request, in
    a thread: a fifth of what the operator did."""
    parts = urlsplit(url)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")


def _object(answer: bytes) -> Object:
    try:
        parsed: Object = json.loads(answer)
    except (ValueError, RecursionError):  # of a proxy in front of it, or with what a user has nested without an end
        said = answer[:200].decode(errors="replace")
        raise ApiError(0, "NoJson", f"the API server's answer is no JSON that can be read: {said!r}") from None
    return parsed


def _error(status: int, answer: bytes) -> ApiError:
    """From the Status object that the server sends with every refusal."""
    try:
        said = json.loads(answer)
        return ApiError(status, str(said.get("reason", "")), str(said.get("message", "")))
    except (ValueError, AttributeError):
        return ApiError(status, "", answer[:200].decode(errors="replace"))
