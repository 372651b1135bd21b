"""Documents do not lie: the commands and files that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from config.settings import PROJECT
from deployments.cli import app
from trading.breaks import KINDS

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    root = get_command(app)
    for said in re.findall(r"`(?:\.venv/bin/)?keel ([a-z]+)(?: ([a-z]+))?[^`]*`", page.read_text()):
        first, second = said
        assert first in root.commands, f"{page.name}: keel {first}"  # type: ignore[attr-defined]
        inner = getattr(root.commands[first], "commands", None)  # type: ignore[attr-defined]
        if inner is not None and second:
            assert second in inner, f"{page.name}: keel {first} {second}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_links_exists(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_the_books_page_tells_every_kind_of_break_as_the_code_has_it() -> None:
    page = (PROJECT / "docs" / "books.md").read_text()
    for name, kind in KINDS.items():
        opens = f"{kind.reach}, {str(kind.level).replace('_', ' ')}" if kind.reach else "–"
        assert f"| `{name}` | {kind.severity} | {kind.means} | {opens} |" in page
