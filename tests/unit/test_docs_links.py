"""Links between the documents lead somewhere: file and heading."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")


def documents() -> list[Path]:
    found = ((path, path.relative_to(ROOT).parts) for path in ROOT.rglob("*.md"))
    return sorted(path for path, parts in found if not any(part.startswith(".") for part in parts))


@cache
def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings: small letters, hyphens for blanks, no other punctuation."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in HEADING.findall(text))
    return {NOT_IN_ANCHORS.sub("", heading.lower()).strip().replace(" ", "-") for heading in plain}


def astray(document: Path) -> list[str]:
    """Links of this document that lead nowhere."""
    found = [
        (document.parent / path if path else document, anchor)
        for path, anchor in LINK.findall(CODE.sub("", document.read_text()))
    ]
    return [
        f"{target}#{anchor}"
        for target, anchor in found
        if not target.exists() or (anchor and anchor not in anchors(target.resolve()))
    ]


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert not astray(document)


def test_a_link_astray_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text(
        "# A [title](https://e/f) here\n[a](#a-title-here) [b](#b) [c](a.md#a-title-here) [d](d.md) `[e](e.md)`"
    )
    assert astray(page) == [f"{page}#b", f"{tmp_path / 'd.md'}#"]
