"""Tests of the tests, in SQL: each refusal on the road to the wire, broken on purpose, makes a scenario of its fail.

`keel.mark_sending` is taken from rules.sql, one of its lines is changed, and the scenarios of the journal, or one row of the
census of removals, are played against it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import pytest
from _pytest.outcomes import Failed

from tests.builders.removals import ROWS
from tests.builders.venues import quick_desk
from tests.integration import test_census, test_journal, test_life_cycle
from tests.integration.test_journal import Ledger
from trading.errors import KeelError
from trading.orders import Side
from trading.risk import Level
from trading.store.database import connect

RULES = (files("trading.store") / "sql" / "rules.sql").read_text()
SIGNATURE = "keel.mark_sending(text, bigint, uuid[], text[], boolean, text, text, text)"
Scenario = Callable[[str], object]
"""Played on a ledger by its URL; raises where it does not come out as it should."""


def mark_sending() -> str:
    begins = RULES.index("create function keel.mark_sending(")
    return RULES[begins : RULES.index("end $$;", begins) + len("end $$;")]


def install(url: str, text: str) -> None:
    """As the migration leaves it: run as its owner, found by its callers."""
    with connect(url) as owner:
        owner.execute(text.replace("create function", "create or replace function", 1).encode())
        owner.execute(f"alter function {SIGNATURE} security definer set search_path = pg_catalog, pg_temp".encode())


def told(scenario: Callable[..., object], *arguments: object) -> Scenario:
    """A test of the journal, on a ledger of its own."""

    def play(url: str) -> None:
        ledger = Ledger(url)
        try:
            scenario(ledger, *arguments)
        finally:
            ledger.connection.close()

    return play


def lived(scenario: Callable[..., object]) -> Scenario:
    """A test of an order's life, at a quick venue."""

    def play(url: str) -> None:
        with quick_desk(url) as desk:
            scenario(desk)

    return play


def at_level(level: Level, verdict: str, **terms: object) -> Scenario:
    return told(test_journal.test_what_an_open_breaker_lets_through_depends_on_its_level, level, terms, verdict)


def counted(what: str) -> Scenario:
    """One row of the census."""
    (removal,) = (row for row in ROWS if row.what == what)
    return lambda url: test_census.test_without_it_no_order_arrives_and_somebody_is_told_why(url, removal)


def both_arrive(*, real: bool) -> Scenario:
    return lambda url: test_census.test_with_nothing_taken_away_both_orders_arrive(url, real)


TOO_LATE = "      when clock_timestamp() > o.send_before then 'too_late'\n"
NOT_ARMED = "      when not is_armed and o.side = 'buy' then 'not_armed'\n"
STATE = "      when o.state <> 'staged' then o.state\n"
MISSING = "  if found_rows < cardinality(p_scopes) then shared := 3; end if;\n"
BY_PRODUCT = "coalesce((by_product ->> ('product:' || p_book || ':' || i.product))::int, 3)"

BROKEN: dict[str, tuple[str, str, Scenario]] = {
    "fenced": ("if current_epoch is distinct from p_epoch then", "if false then",
               told(test_journal.test_a_run_that_was_overtaken_is_fenced)),
    "too late": (TOO_LATE, "", told(test_journal.test_an_order_past_its_time_to_live_is_abandoned)),
    "not armed": (NOT_ARMED, "", counted("a person ended the arming after the checks")),
    "not armed, but paper": ("mode = 'paper' or ", "", both_arrive(real=False)),
    "armed, and real": (" > clock_timestamp(), false)", " < clock_timestamp(), false)", both_arrive(real=True)),
    "breaker open": ("else 'breaker_open' end;", "else 'send' end;",
                     told(test_journal.test_an_open_breaker_that_committed_first_wins_and_frees_the_hold)),
    "a shared breaker": ("shared := greatest(shared, b.severity);", "shared := shared;",
                         told(test_journal.test_an_open_breaker_that_committed_first_wins_and_frees_the_hold)),
    "a missing shared row": (MISSING, "", told(test_journal.test_a_missing_breaker_row_is_an_open_breaker)),
    "a missing product row": (BY_PRODUCT, BY_PRODUCT.replace("3)", "0)"),
                              told(test_journal.test_a_product_without_a_row_is_an_open_breaker)),
    "a product's breaker": ("jsonb_build_object(b.scope, b.severity)", "jsonb_build_object(b.scope, 0)",
                            at_level(Level.CANCEL, "breaker_open", side=Side.BUY)),
    "reduce only lets sales through": ("when level = 'reduce_only' then 2 else 3 end", "else 3 end",
                                       at_level(Level.REDUCE_ONLY, "send", side=Side.SELL)),
    "no new lets no sale through": ("when level = 'reduce_only' then 2 else 3 end", "else 2 end",
                                    at_level(Level.NO_NEW, "breaker_open", side=Side.SELL)),
    "reduce only lets no purchase through": ("(o.severity = 2 and o.side = 'sell')", "(o.severity = 2)",
                                             told(test_journal.test_an_open_breaker_that_committed_first_wins_and_frees_the_hold)),
    "protective exits go": ("when o.protective or ", "when ",
                            at_level(Level.NO_NEW, "send", side=Side.SELL, protective=True)),
    "half-open lets orders through": ("when state = 'half_open' then 1", "when state = 'half_open' then 3",
                                      both_arrive(real=True)),
    "a replay while a breaker is open": (" and o.severity = 0 ", " ",
                                         lived(test_life_cycle.test_an_open_breaker_forbids_the_replay)),
    "a replay": ("when o.state = 'in_doubt' and p_replay ", "when false ",
                 lived(test_life_cycle.test_a_venue_that_replays_gets_the_same_bytes_again_while_the_order_lives)),
    "marked once": (STATE, "", told(test_journal.test_an_order_is_marked_once)),
}  # fmt: skip
"""What is broken -> the text of one line, what it becomes, and the scenario that fails then."""


@pytest.mark.parametrize("case", BROKEN)
def test_a_refusal_that_is_broken_is_noticed(database_url: str, case: str) -> None:
    line, broken, scenario = BROKEN[case]
    text = mark_sending()
    assert text.count(line) == 1, "the line is one, and there"
    install(database_url, text.replace(line, broken))
    with pytest.raises((AssertionError, Failed, KeelError)):
        scenario(database_url)


@pytest.mark.parametrize("case", BROKEN)
def test_the_scenario_holds_while_nothing_is_broken(database_url: str, case: str) -> None:
    """Installed in the same way, but as it is: else the one above would prove nothing."""
    install(database_url, mark_sending())
    BROKEN[case][2](database_url)
