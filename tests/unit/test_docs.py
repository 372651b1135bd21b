"""Documents do not lie: the commands and files that they name exist."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest
from typer.main import get_command

from config.live import settings_checks
from config.settings import PROJECT
from deployments.cli import app
from tests.builders.plans import NOON
from trading.breaks import KINDS
from trading.errors import Unanswered
from trading.exchange.port import FeeTier
from trading.market import Product
from trading.orders import Mode
from trading.safety import KeyRights, Standing, check_standing, check_venue

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    root = get_command(app)
    for said in re.findall(r"`(?:\.venv/bin/)?keel ([a-z-]+)(?: ([a-z]+))?[^`]*`", page.read_text()):
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


class SilentVenue:
    """Answers nothing: each question is a failed check, by its name."""

    def permissions(self) -> KeyRights:
        raise Unanswered("silent")

    def view_permissions(self) -> KeyRights:
        raise Unanswered("silent")

    def venue_time(self) -> datetime:
        raise Unanswered("silent")

    def fee_tier(self) -> FeeTier:
        raise Unanswered("silent")

    def products(self, ids: list[str]) -> dict[str, Product]:
        raise Unanswered(f"silent about {ids}")


def test_the_live_page_tells_every_check_and_what_its_failure_stops() -> None:
    nothing = Standing(reconciled_at=None, open_breaks=0, breaker="", armed_until=None, anchor_age=None, chain="", ramp="")
    asked = check_venue(SilentVenue(), ["BTC-USD"], lambda: NOON)
    assert not any(check.ok for check in asked)
    checks = [*settings_checks(Mode.LIVE), *asked, *check_standing(nothing, NOON)]
    page = (PROJECT / "docs" / "live.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \|.*\| (no order|no new risk)[^|]* \|$", page, re.MULTILINE))
    assert told == {check.name: "no new risk" if check.risk_only else "no order" for check in checks}
    words = {18: "eighteen"}
    assert f"[{words[len(checks)]} checks](docs/live.md)" in (PROJECT / "README.md").read_text()
