"""Who may call: the API keys of an endpoint and its admin key, asked before anything else of the app runs.

It stands in for SGLang's own key middleware (sglang/srt/utils/auth.py), which holds one fixed key, lets websockets pass
and reads the path from the Host header's URL. What a client sees is the same, but for admin routes without an admin
key: they are closed here and open there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglang_serve import args
from sglang_serve.keys import KeyRing
from sglang_serve.replies import error_body, readable, send_json

# Open whatever the keys: probes and scrapers carry none (decide_request_auth of SGLang has the same prefixes).
OPEN_PREFIXES = ("/health", "/ready", "/metrics")
SUBPROTOCOL_PREFIX = "openai-insecure-api-key."  # how OpenAI's browser clients send the key on a websocket
POLICY_VIOLATION = 1008  # websocket close code
TRUSTED = "sglang_serve.trusted"  # in the scope of a request that another replica has let in: the name of its key
KEY_NAME = "sglang_serve.key"  # where the name of the caller's key is left in the ASGI scope, for the request log

UNAUTHORIZED = {"error": "Unauthorized"}  # byte for byte what SGLang answers
ADMIN_CLOSED = "admin routes are closed: this endpoint has no admin key (spec.api.adminKeySecret)"


@dataclass(frozen=True)
class Policy:
    """What is asked of a caller. `keys` None: no key needed. `admin` None: admin routes are closed."""

    is_admin: Callable[[Scope], bool]
    keys: KeyRing | None = None
    admin: KeyRing | None = None


@dataclass(frozen=True)
class Decision:
    """`status` is OK (pass), UNAUTHORIZED or FORBIDDEN; `key` the name of the key that opened."""

    status: HTTPStatus
    key: str = ""


def policy_from(
    is_admin: Callable[[Scope], bool], *, require_keys: bool, keys_dir: str, admin: bool, admin_key_file: str
) -> Policy:
    """The policy of ServeArgs and the environment. An unset path fails: it must not end as an open endpoint."""
    if require_keys and not keys_dir:
        raise ValueError("require_keys is set, but SGLANG_SERVE_KEYS_DIR is not: point it at the mounted keys Secret")
    if admin and not admin_key_file:
        raise ValueError("admin is set, but SGLANG_SERVE_ADMIN_KEY_FILE is not: point it at the mounted admin key")
    return Policy(
        is_admin=is_admin,
        keys=KeyRing(Path(keys_dir)) if require_keys else None,
        admin=KeyRing(Path(admin_key_file)) if admin else None,
    )


def rings_from(env: Mapping[str, str]) -> tuple[KeyRing, ...]:
    """Of keys and of the admin key, of those that are mounted here."""
    paths = (env.get(name) for name in (args.ENV_KEYS_DIR, args.ENV_ADMIN_KEY_FILE))
    return tuple(KeyRing(Path(path)) for path in paths if path)


def decide(policy: Policy, scope: Scope) -> Decision:
    """Whether this request passes. The order is SGLang's own."""
    if is_open(scope):
        return Decision(HTTPStatus.OK)
    if policy.is_admin(scope):
        if policy.admin is None or policy.admin.is_empty():
            return Decision(HTTPStatus.FORBIDDEN)
        return _ask(policy.admin, scope)
    return Decision(HTTPStatus.OK) if policy.keys is None else _ask(policy.keys, scope)


def is_open(scope: Scope) -> bool:
    """Whether nobody needs a key for it."""
    return scope.get("method") == "OPTIONS" or scope["path"].startswith(OPEN_PREFIXES)


def _ask(ring: KeyRing, scope: Scope) -> Decision:
    name = ring.name_of(presented_key(scope))
    return Decision(HTTPStatus.UNAUTHORIZED) if name is None else Decision(HTTPStatus.OK, name)


def presented_key(scope: Scope) -> bytes:
    """The bearer token; on a websocket also the subprotocol that carries a key. Empty if there is none."""
    headers = Headers(scope=scope)
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if token and scheme.lower() == "bearer":
        return token.encode("latin-1")
    offered = scope.get("subprotocols", ())  # websockets only
    keys = (p.removeprefix(SUBPROTOCOL_PREFIX) for p in offered if p.startswith(SUBPROTOCOL_PREFIX))
    return next(keys, "").encode("latin-1", "replace")


class AuthMiddleware:
    """Asks `decide` for every http request and websocket, and answers for those that do not pass."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        decision = Decision(HTTPStatus.OK, scope[TRUSTED]) if TRUSTED in scope else decide(self._policy, scope)
        if decision.status is HTTPStatus.OK:
            scope[KEY_NAME] = decision.key
            return await self._app(scope, receive, _with_subprotocol(scope, send))
        return await refuse(scope, send, decision.status)


def _with_subprotocol(scope: Scope, send: Send) -> Send:
    """A browser that offers subprotocols ends a websocket that chooses none of them, and SGLang chooses none. So where
    the key is one of them, the first of the others is chosen: the key must not come back."""
    offered = scope.get("subprotocols", ())
    others = [one for one in offered if not one.startswith(SUBPROTOCOL_PREFIX)]
    if not others or len(others) == len(offered):
        return send

    async def wrapped(message: Message) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol"):
            message = {**message, "subprotocol": others[0]}
        await send(message)

    return wrapped


async def refuse(scope: Scope, send: Send, status: HTTPStatus) -> None:
    """Answer for a request that does not pass."""
    if scope["type"] == "websocket":  # closed before it is accepted: the client sees a refused handshake
        return await send({"type": "websocket.close", "code": POLICY_VIOLATION})
    if status is HTTPStatus.UNAUTHORIZED:  # SGLang's own has no CORS headers either
        return await send_json(send, status, UNAUTHORIZED)
    return await send_json(readable(scope, send), status, error_body(scope["path"], status, ADMIN_CLOSED))
