"""The requests that both servers get, and what one answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import yaml

REQUESTS = Path(__file__).parent / "requests"
SECONDS = 180  # per answer, on two busy cores


Credential = Literal["right", "admin", "none", "wrong", "basic"]


@dataclass(frozen=True)
class Keys:
    """The keys that a server was started with; without them nobody sends any."""

    api: str = ""
    admin: str = ""


@dataclass(frozen=True)
class Ask:
    """One request. `json`, `text` and `form` exclude each other."""

    name: str
    path: str
    method: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    text: str | None = None
    form: Mapping[str, str] | None = None
    stream: bool = False
    credential: Credential = "right"
    is_admin: bool = False
    contains: str = ""  # what both answers must hold

    @property
    def verb(self) -> str:
        """The HTTP method: the one that is given, or POST with a body and GET without."""
        has_body = self.json is not None or self.text is not None or self.form is not None
        return self.method or ("POST" if has_body else "GET")

    def send(self, client: httpx.Client, keys: Keys | None = None) -> Answer:
        """Ask once and read the answer to its end."""
        response = client.request(
            self.verb,
            self.path,
            headers={**_authorization(self.credential, keys or Keys()), **self.headers},
            json=self.json,
            content=self.text,
            files={name: (None, value) for name, value in self.form.items()} if self.form else None,
        )
        return Answer(response.status_code, dict(response.headers), response.content)


@dataclass(frozen=True)
class Answer:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_event_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def value(self) -> Any:
        """The body as JSON, or as text where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return self.body.decode(errors="replace")


def _authorization(credential: Credential, keys: Keys) -> dict[str, str]:
    values = {
        "right": f"Bearer {keys.api}" if keys.api else "",
        "admin": f"Bearer {keys.admin or 'no-such-key'}",
        "none": "",
        "wrong": "Bearer no-such-key",
        "basic": f"Basic {keys.api}",
    }
    return {"authorization": values[credential]} if values[credential] else {}


def load(name: str) -> list[Ask]:
    """The requests of one file, in its order: later ones may depend on what earlier ones left in the server."""
    entries = yaml.safe_load((REQUESTS / f"{name}.yaml").read_text())
    common: dict[str, Any] = {"is_admin": True, "credential": "admin"} if name == "admin" else {}
    return [Ask(name=key, **common, **_expand(entry)) for key, entry in entries.items()]


def _expand(value: Any) -> Any:
    """Replace {$repeat: [text, times]}: bodies too long to be written out."""
    if isinstance(value, list):
        return [_expand(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "$repeat" in value:
        text, times = value["$repeat"]
        return text * times
    return {key: _expand(one) for key, one in value.items()}


def connect(url: str) -> httpx.Client:
    """A client that follows no redirect; each request has its own connection, for some answers end theirs."""
    one_by_one = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=url, timeout=SECONDS, limits=one_by_one, trust_env=False)
