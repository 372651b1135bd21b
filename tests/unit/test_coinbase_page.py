"""docs/coinbase.md says what the adapter does: every order, reply, status and figure in it is the code's."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from config.settings import PROJECT
from trading.exchange.coinbase import Pace
from trading.exchange.coinbase.amending import CANCELS
from trading.exchange.coinbase.bodies import CONFIGURATIONS
from trading.exchange.coinbase.pace import RETRY_AFTER_MOST
from trading.exchange.coinbase.replies import classify
from trading.exchange.coinbase.stream import Patience
from trading.exchange.coinbase.wire import STATUSES
from trading.exchange.coinbase.words import NO_BY_ERROR, REFUSALS
from trading.exchange.port import OUTCOMES, RESOLUTIONS, Duplicates, Outcome, Reply, Status
from trading.plan import Orders

PAGE = (PROJECT / "docs" / "coinbase.md").read_text()
TEXT = " ".join(PAGE.split())
STATE = {Outcome.CONFIRMED: "open", Outcome.REFUSED: "rejected", Outcome.IN_DOUBT: "in doubt"}
NO = b'{"success": false, "error_response": {"error": "%s"}}'
EXAMPLES: dict[tuple[str, str], list[tuple[int, bytes]]] = {
    ("200", "`success` true, with an order id, of our client id"): [
        (200, b'{"success": true, "success_response": {"order_id": "v", "client_order_id": "id"}}')
    ],
    ("200", "`success` false, a reason that we know"): [(200, NO % b"INSUFFICIENT_FUND")],
    ("200", "`success` false, `DUPLICATE_CLIENT_ORDER_ID`"): [(200, NO % b"DUPLICATE_CLIENT_ORDER_ID")],
    ("200", "`success` false, no reason or a new one"): [(200, NO % b""), (200, NO % b"NEW")],
    ("200", "anything else"): [(200, b"<html>"), (200, b"[]"), (200, b"{}")],
    ("400, 401, 403", "an object with an error that is a refusal"): [
        (status, b'{"error": "%s"}' % word.encode()) for status in (400, 401, 403) for word in sorted(NO_BY_ERROR)
    ],
    ("400, 401, 403", "an object with another error"): [(status, b'{"error": "INTERNAL"}') for status in (400, 401, 403)],
    ("401", "the text `Unauthorized`"): [(401, b"Unauthorized\n")],
    ("404", "an object"): [(404, b'{"error": "NOT_FOUND"}')],
    ("429", "anything"): [(429, b""), (429, b"{}"), (429, b"Too many requests")],
    ("500 and above", "anything"): [(500, b"{}"), (502, b"<html>"), (520, b"")],
    ("other", "anything"): [(302, b"{}"), (403, b"<html>"), (404, b"gone"), (418, b"{}")],
    ("none", "no answer in time"): [],
    ("none", "the connection broke"): [],
}


def rows(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading."""
    part = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = part.split("\n|---", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_every_kind_of_order_is_in_the_table() -> None:
    told = [(kind, force, key.strip("`")) for kind, force, key in rows("Orders")]
    assert told == [(kind.value, force.value, key) for (kind, force), key in CONFIGURATIONS.items()]


def test_the_table_of_replies_has_an_example_for_each_row_and_a_row_for_each_reply() -> None:
    told = rows("What a reply to a create counts as")
    assert [(status, body) for status, body, *_ in told] == list(EXAMPLES)
    assert {counts for _, _, counts, _ in told} == {reply.value for reply in Reply}


@pytest.mark.parametrize("row", rows("What a reply to a create counts as"), ids=lambda row: f"{row[0]} {row[1]}")
def test_a_reply_counts_as_the_table_says(row: list[str]) -> None:
    status, body, counts, state = row
    assert STATE[OUTCOMES[Duplicates.REPLAYS, Reply(counts)]] == state
    for code, content in EXAMPLES[status, body]:
        assert classify(code, content, "id").reply == counts


def test_the_reasons_that_it_explains_are_reasons_of_the_venue() -> None:
    part = PAGE.split("| Reason | What to do |", 1)[1].split("\n\n", 1)[0]
    reasons = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
    assert reasons
    assert set(reasons) <= REFUSALS | NO_BY_ERROR


def test_the_statuses_are_those_of_the_code() -> None:
    said = TEXT.split("Statuses: ", 1)[1]
    opens, rest = said.split(" count as open; ", 1)
    closed, failed = rest.split(" as they say; ", 1)
    told = [re.findall(r"`(\w+)`", part) for part in (opens, closed, failed.split(" as rejected")[0])]
    assert set(told[0]) == {word for word, status in STATUSES.items() if status is Status.OPEN}
    assert set(told[1]) == {word for word, status in STATUSES.items() if word == status.upper()} - {"OPEN"}
    assert set(told[2]) == {word for word, status in STATUSES.items() if status is Status.REJECTED}


def test_the_figures_are_those_of_the_code() -> None:
    pace, patience, rule = Pace(), Patience(), RESOLUTIONS[Duplicates.REPLAYS]
    assert f"**{pace.private_per_second} and {pace.public_per_second}**" in TEXT
    assert (pace.cancel_reserve, pace.attempts, pace.patience_seconds, RETRY_AFTER_MOST) == (2, 4, 30, 5)
    assert "Two private calls" in TEXT
    assert "four times in all within 30 seconds" in TEXT
    assert "`Retry-After` of up to 5 seconds" in TEXT
    assert f"Cancels** go {CANCELS} at a time" in TEXT
    assert f"{patience.silence:.0f} seconds without a heartbeat" in TEXT
    assert f"doubles up to {patience.backoff_most:.0f} seconds" in TEXT
    assert f"`orders.stop_collar` ({Orders().stop_collar})" in TEXT
    assert Orders().stop_collar == Decimal("0.02")
    assert (rule.scans_min, rule.quiet_seconds_min) == (3, 120)
    assert "three complete scans over at least 120 seconds" in TEXT
