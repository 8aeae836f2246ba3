"""Rules of an address: where a model or an adapter comes from."""

from __future__ import annotations

import re
from typing import Any, Final

from sglang_operator.api.base import REVISION, Model
from sglang_operator.api.rule import Rule
from sglang_operator.api.spec_model import ModelSource

_PATH: Final = r"[!-.0-9;-~][!-9;-~]*"  # printable ASCII, no leading slash; no colon, which a served name cannot hold
_HF: Final = r"^hf://[A-Za-z0-9_][-A-Za-z0-9_.]*/[A-Za-z0-9_][-A-Za-z0-9_.]*$"
_BUCKET: Final = rf"^(s3|gs)://[a-z0-9][-a-z0-9._]{{1,61}}[a-z0-9](/{_PATH})?$"
URI: Final = rf"{_HF}|{_BUCKET}|^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/{_PATH})?$|^file:///{_PATH}$"
_DOT_SEGMENT: Final = r"/[.][.]?(/|$)"
_HUB: Final = re.compile(
    r"(?:hf://|huggingface://|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)(?P<repository>[^/@]+/[^/@]+)"
    rf"(?:@(?P<at>{REVISION[1:-1]})|/(?:tree|blob|resolve)/(?P<of_page>[^/]+)(?:/.*)?)?/?"
)
_WITH_PATHS: Final = ("", "pvc", "file", "s3", "gs")  # "": a path without a scheme
BUCKETS: Final = ("s3://", "gs://")


def _advise(part: Any) -> str:
    if hub := _on_hub(part):
        return hub
    if re.fullmatch(_HF, f"hf://{part.uri}"):
        return f'did you mean "hf://{part.uri}"?'
    if _has_colon_or_space(part.uri):
        return "a path may hold no colon and no space; rename the directory"
    if part.uri.startswith("/"):
        return f'did you mean "file://{part.uri}"?'
    return ""


def _on_hub(part: Any) -> str:
    """The remedy for a page of the Hugging Face hub, or for an address with a revision in it."""
    match = _HUB.fullmatch(part.uri)
    if not match or not re.fullmatch(_HF, uri := f"hf://{match['repository']}"):
        return ""
    revision = match["at"] or match["of_page"]
    if not revision:
        return f'did you mean "{uri}"?'
    where = "spec.model.revision" if isinstance(part, ModelSource) else "revision"
    return f"write {uri} and {where}: {revision}"


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
