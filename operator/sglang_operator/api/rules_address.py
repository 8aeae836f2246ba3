"""Rules of an address: where a model or an adapter comes from."""

from __future__ import annotations

import re
from typing import Any, Final

from sglang_operator.api.base import Model
from sglang_operator.api.rule import Rule

_PATH: Final = r"[!-.0-9;-~][!-9;-~]*"  # printable ASCII, no leading slash; no colon, which a served name cannot hold
_HF: Final = r"^hf://[A-Za-z0-9_][-A-Za-z0-9_.]*/[A-Za-z0-9_][-A-Za-z0-9_.]*$"
_BUCKET: Final = rf"^(s3|gs)://[a-z0-9][-a-z0-9._]{{1,61}}[a-z0-9](/{_PATH})?$"
URI: Final = rf"{_HF}|{_BUCKET}|^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/{_PATH})?$|^file:///{_PATH}$"
_DOT_SEGMENT: Final = r"/[.][.]?(/|$)"
_WITH_PATHS: Final = ("", "pvc", "file", "s3", "gs")  # "": a path without a scheme
BUCKETS: Final = ("s3://", "gs://")


def _advise(part: Any) -> str:
    if re.fullmatch(_HF, f"hf://{part.uri}"):
        return f'did you mean "hf://{part.uri}"?'
    if _has_colon_or_space(part.uri):
        return "a path may hold no colon and no space; rename the directory"
    if part.uri.startswith("/"):
        return f'did you mean "file://{part.uri}"?'
    return ""


def _has_colon_or_space(uri: str) -> bool:
    """Whether that is in the path, behind a claim or a bucket."""
    scheme, _, rest = uri.rpartition("://")
    path = rest.partition("/")[2]
    return scheme in _WITH_PATHS and (":" in path or " " in path)


def address(of: type[Model], example: str) -> tuple[Rule[Any], ...]:
    """The rules of the field `uri` of a part."""
    return (
        Rule(
            of=of,
            field="uri",
            cel=f"self.uri.matches(r'{URI}')",
            holds=lambda part: bool(re.fullmatch(URI, part.uri)),
            message="must be hf://<org>/<name>, s3:// or gs://<bucket>/<path>, pvc://<claim>/<path> or "
            "file:///<absolute path>",
            remedy=f"for example {example}",
            advice=_advise,
        ),
        Rule(
            of=of,
            field="uri",
            cel=f"!self.uri.matches(r'{_DOT_SEGMENT}')",
            holds=lambda part: not re.search(_DOT_SEGMENT, part.uri),
            message="must have no `.` or `..` between slashes",
            remedy="write the path out",
        ),
    )
