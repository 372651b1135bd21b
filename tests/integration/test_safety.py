"""Every condition of real orders, taken away one at a time: then none is sent, or none that adds risk.

What switches, keys and limits say is tried with a venue in memory in the place of Coinbase; what venue and ledger say, over the
real SDK against the simulator. What arrived is counted at the venue, not by what we believe to have sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from config.anchors import anchor_after, anchor_file
from config.clock import wall_clock
from config.desk import open_desk
from config.live import checks_of, venue_of
from config.settings import Settings
from tests.builders import real_money
from tests.builders.plans import MODERATE, buy, plan, sell
from tests.builders.simulator import Running, running
from trading import cycle as cycles
from trading import hand, rollout
from trading.desk import Desk
from trading.errors import ConfigurationError, Unanswered
from trading.exchange.coinbase import KeyPermissions
from trading.exchange.port import Status
from trading.flattening import flatten
from trading.orders import Mode, OrderType, Request, TimeInForce
from trading.plan import Plan
from trading.reconcile import reconcile
from trading.risk import BreakerRow, BreakerState, Cause, Level
from trading.safety import Safety

PLAN = plan(
    limits=MODERATE | {"max_order_size_usd": "200", "max_position_size": "0.9", "max_daily_volume_usd": "5000"},
    ramp={"steps": ["1000", "2000"], "days": 0},
    breaker={"cool_down_minutes": 0},
)


def let_go(desk: Desk, settings: Settings) -> None:
    """A person's way to real orders, and something to sell."""
    with hand.at_the_desk(desk):
        reconcile(desk)
    hand.resume(desk, None, "all looked at")
    rollout.arm(desk, timedelta(hours=1), "an hour")
    anchor_after(desk, settings)
    bought = hand.place(desk, buy())
    assert bought.order is not None, bought.message


# -------------------------------------------------------------------------------- what switches, keys and limits say


@dataclass
class Live:
    """A live desk whose venue is in memory: opened anew for each look at the settings, as each run does."""

    settings: Settings

    @contextmanager
    def desk(self, orders_before: int = 0) -> Iterator[tuple[Desk, real_money.FakeVenue]]:
        with open_desk(PLAN, mode=Mode.LIVE, settings=self.settings, by_person=True) as desk:
            venue = real_money.at_a_fake_venue(desk)
            venue.submitted = orders_before
            desk.ask_safety = checks_of(desk, venue, venue_of(Mode.LIVE, self.settings), self.settings)  # type: ignore[arg-type]
            yield desk, venue


@pytest.fixture
def live(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    home = tmp_path / "keel"
    real_money.only(monkeypatch, home, **real_money.all_set())
    return Live(Settings(home=home, database_url=database_url))


def sent(desk: Desk, venue: real_money.FakeVenue, *requests: Request) -> tuple[int, str]:
    """How many of the requests arrived at the venue, and what was said of those that did not."""
    before, said = venue.submitted, []
    for request in requests:
        placed = hand.place(desk, request)
        said.append(placed.message)
    return venue.submitted - before, "; ".join(said)


def test_with_everything_set_and_a_persons_word_orders_go(live: Live) -> None:
    with live.desk() as (desk, venue):
        let_go(desk, live.settings)
        assert sent(desk, venue, buy(), sell()) == (2, "; ")


def test_a_new_portfolio_sends_nothing_though_everything_is_set(live: Live) -> None:
    with live.desk() as (desk, venue):
        count, said = sent(desk, venue, buy())
        assert count == 0
        assert "is open" in said, "its breakers begin open"


NO_VIEW_KEY = ("COINBASE_VIEW_API_KEY", "COINBASE_VIEW_PRIVATE_KEY")
TAKEN_AWAY: dict[str, tuple[dict[str, str | None], str]] = {
    "paper trading on": ({"PAPER_TRADING": "true"}, "PAPER_TRADING: found true, expected false"),
    "paper trading unset": ({"PAPER_TRADING": None}, "PAPER_TRADING: found true, expected false"),
    "paper trading unreadable": ({"PAPER_TRADING": "perhaps"}, "PAPER_TRADING: found true, expected false"),
    "live trading off": ({"LIVE_TRADING_ENABLED": "false"}, "LIVE_TRADING_ENABLED: found false, expected true"),
    "live trading unset": ({"LIVE_TRADING_ENABLED": None}, "LIVE_TRADING_ENABLED: found false, expected true"),
    "another environment": ({"ENVIRONMENT": "staging"}, "ENVIRONMENT: found staging, expected production"),
    "no environment": ({"ENVIRONMENT": None}, "ENVIRONMENT: found development, expected production"),
    "no key that trades": (dict.fromkeys(("COINBASE_API_KEY", "COINBASE_PRIVATE_KEY")), "credentials: found"),
    "half a key": ({"COINBASE_PRIVATE_KEY": None}, "credentials: found COINBASE_PRIVATE_KEY: found nothing"),
    "a key that is none": ({"COINBASE_PRIVATE_KEY": "secret"}, "credentials: found environment: private key"),
    "no key that views": (dict.fromkeys(NO_VIEW_KEY), "view_credentials: found"),
} | {f"{name} unset": ({name: None}, f"limits: found unset: {name}") for name in real_money.LIMITS}


@pytest.mark.parametrize("case", TAKEN_AWAY)
def test_without_one_of_the_settings_neither_a_buy_nor_a_sale_is_sent(
    live: Live, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    with live.desk() as (desk, _):
        let_go(desk, live.settings)
    settings, words = TAKEN_AWAY[case]
    for name, value in settings.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with live.desk() as (desk, venue):
        count, said = sent(desk, venue, buy(), sell())
        assert (count, said.count(words)) == (0, 2), said


def test_two_places_that_differ_forbid_every_order(live: Live) -> None:
    with live.desk() as (desk, _):
        let_go(desk, live.settings)
    file = live.settings.home / ".env.coinbase"
    file.write_text("PAPER_TRADING=true\n")
    file.chmod(0o600)
    with live.desk() as (desk, venue):
        count, said = sent(desk, venue, buy(), sell())
        assert count == 0
        assert "conflicts: found PAPER_TRADING: found different values" in said


def test_one_key_for_both_forbids_every_order(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    with live.desk() as (desk, _):
        let_go(desk, live.settings)
    both = real_money.keys()
    for half in ("API_KEY", "PRIVATE_KEY"):
        monkeypatch.setenv(f"COINBASE_{half}", both[f"COINBASE_{half}"])
        monkeypatch.setenv(f"COINBASE_VIEW_{half}", both[f"COINBASE_{half}"])
    with live.desk() as (desk, venue):
        count, said = sent(desk, venue, buy(), sell())
        assert count == 0
        assert "view_credentials: found the trade key" in said


def test_without_any_key_no_live_desk_opens(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COINBASE_API_KEY", "COINBASE_PRIVATE_KEY", *NO_VIEW_KEY):
        monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match="found neither a key that trades nor one that views"), live.desk():
        pass


def test_a_desk_that_nobody_gave_checks_sends_nothing(live: Live) -> None:
    with live.desk() as (desk, venue):
        let_go(desk, live.settings)
        desk.ask_safety = Safety
        count, said = sent(desk, venue, buy(), sell())
        assert (count, said.count("the checks of live trading have not been made")) == (0, 2)


# ------------------------------------------------------------------------------- what the venue's answers open besides


def may(*, trade: bool, transfer: bool = False, view: bool = True) -> Callable[[], KeyPermissions]:
    rights = KeyPermissions(can_view=view, can_trade=trade, can_transfer=transfer, portfolio="main")
    return lambda: rights


def venue_breaker(desk: Desk) -> tuple[BreakerRow, list[dict[str, str]]]:
    """As it stands, and the evidence of its last move."""
    (row,) = desk.books.breakers([f"venue:{desk.exchange.name}"])
    query = "select violations from keel.breaker_event where scope = %s order by generation desc limit 1"
    found = desk.books.connection.execute(query, (row.scope,)).fetchone()
    assert found is not None
    return row, found[0]  # type: ignore[return-value]


DRIFTS = {
    "may transfer": ("permissions", may(trade=True, transfer=True), "1", "key_permissions: found a key that may view and trade"),
    "may trade no longer": ("permissions", may(trade=False), "1", "key_permissions: found a key that may view, expected"),
    "may nothing": ("permissions", may(trade=False, view=False), "2", "key_permissions: found a key that may nothing, expected"),
    "the one that views may trade": ("view_permissions", may(trade=True), "1", "view_permissions: found a key that may view and"),
}


@pytest.mark.parametrize("case", DRIFTS)
def test_an_armed_key_whose_rights_change_opens_the_venues_breaker_and_what_rests_is_cancelled(live: Live, case: str) -> None:
    question, answer, observed, words = DRIFTS[case]
    with live.desk() as (desk, venue):
        let_go(desk, live.settings)
        resting = hand.place(desk, buy(type=OrderType.LIMIT, limit_price=Decimal(49000), time_in_force=TimeInForce.GTC)).order
        assert resting is not None
        setattr(venue, question, answer)
        count, said = sent(desk, venue, buy(), sell())
        assert (count, said.count(words)) == (0, 2), said
        row, evidence = venue_breaker(desk)
        assert (row.state, row.level, row.cause) == (BreakerState.OPEN, Level.CANCEL, Cause.DOUBT)
        assert row.reason.startswith(f"permission_drift: observed {observed}, limit 0; {words}")
        [told] = evidence
        found = told.pop("found")
        assert found.startswith(words)
        assert told == {"code": "permission_drift", "observed": observed, "limit": "0", "level": "cancel"}
        assert venue.placed[str(resting.exchange_order_id)].status is Status.CANCELLED


@pytest.mark.parametrize("seconds", [-11.5, 11.5])
def test_a_clock_that_is_off_the_venues_opens_its_breaker_for_new_risk(live: Live, seconds: float) -> None:
    with live.desk() as (desk, venue):
        let_go(desk, live.settings)
        venue.venue_time = lambda: datetime.now(UTC) + timedelta(seconds=seconds)  # type: ignore[method-assign]
        count, said = sent(desk, venue, buy())
        assert count == 0
        assert "the breaker venue:coinbase is open (no_new): venue_clock_seconds: observed 11." in said
        row, [told] = venue_breaker(desk)
        assert (row.level, row.cause) == (Level.NO_NEW, Cause.DOUBT)
        assert (told["code"], told["limit"], told["found"].startswith("clock: found 11.")) == ("venue_clock_seconds", "10", True)


def test_a_clock_within_the_tolerance_and_an_answer_that_is_missing_open_nothing(live: Live) -> None:
    def silent() -> KeyPermissions:
        raise Unanswered("away")

    with live.desk() as (desk, venue):
        let_go(desk, live.settings)
        venue.venue_time = lambda: datetime.now(UTC) + timedelta(seconds=9.5)  # type: ignore[method-assign]
        assert sent(desk, venue, buy())[0] == 1
        venue.permissions = silent  # type: ignore[method-assign]
        assert sent(desk, venue, buy())[0] == 0, "but nothing is sent without an answer"
        assert venue_breaker(desk)[0].state is BreakerState.HALF_OPEN


def test_the_keys_of_a_portfolio_that_is_not_armed_may_come_and_go(live: Live) -> None:
    with live.desk() as (desk, venue):
        let_go(desk, live.settings)
        rollout.disarm(desk, "new keys")
        venue.permissions = may(trade=True, transfer=True)  # type: ignore[method-assign]
        count, said = sent(desk, venue, buy())
        assert (count, "key_permissions: found" in said) == (0, True)
        assert venue_breaker(desk)[0].state is BreakerState.HALF_OPEN


def test_a_run_tells_what_the_venues_answers_opened(live: Live) -> None:
    with live.desk() as (desk, venue):
        let_go(desk, live.settings)
        venue.permissions = may(trade=False)  # type: ignore[method-assign]
        cycle = cycles.run(desk)
        assert [violation.code for violation in cycle.violations] == ["permission_drift"]
        assert cycle.summary["breaker"]["reason"].startswith("permission_drift: observed 1, limit 0; key_permissions: found")


# --------------------------------------------------------------------------------------------------- the two hosts


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8443", "localhost:8443", "[::1]:8443", "api.coinbase.com.evil.example", "example.com"]
)
def test_live_refuses_every_host_that_is_not_coinbase(live: Live, host: str) -> None:
    elsewhere = live.settings.model_copy(update={"coinbase_host": host})
    refused = pytest.raises(ConfigurationError, match=r"coinbase: live: found host .* expected api\.coinbase\.com")
    with refused, open_desk(PLAN, mode=Mode.LIVE, settings=elsewhere):
        pass


@pytest.mark.parametrize("host", ["api.coinbase.com", "api.coinbase.com:443", "10.0.0.7:8443"])
def test_a_rehearsal_refuses_every_host_that_is_not_this_machine(venue: Running, rehearsal: Rehearsal, host: str) -> None:
    file = rehearsal.settings.simulator_home
    assert file is not None
    ready = file / "ready.json"
    ready.write_text(json.dumps(venue.line | {"host": host}))
    with pytest.raises(ConfigurationError, match="rehearsal"), rehearsal.desk():
        pass
    assert venue.oracle["bodies"] == {}


# ------------------------------------------------------------------------------------- what venue and ledger say


@dataclass
class Rehearsal:
    """A plan in rehearsal that may send, until a test takes something away."""

    venue: Running
    settings: Settings

    @contextmanager
    def desk(self, trades: Plan = PLAN) -> Iterator[Desk]:
        with open_desk(trades, mode=Mode.REHEARSAL, settings=self.settings, by_person=True) as desk:
            yield desk

    @property
    def arrived(self) -> int:
        """Create calls that reached the venue, whatever it made of them."""
        return sum(self.venue.oracle["received"].values())

    def sent(self, request: Request, trades: Plan = PLAN) -> tuple[int, str]:
        """Whether an order by hand arrived (0 or 1), and why not."""
        before = self.arrived
        with self.desk(trades) as desk:
            placed = hand.place(desk, request)
        return self.arrived - before, placed.message


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "simulator", "--prices", "synthetic", "--public-rate", "0") as started:
        yield started


@pytest.fixture
def rehearsal(venue: Running, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
    real_money.only(monkeypatch, tmp_path / "keel")
    settings = Settings(
        home=tmp_path / "keel", database_url=database_url, simulator_home=tmp_path / "simulator", timeout_seconds=2
    )
    return Rehearsal(venue, settings)


@pytest.fixture
def ready(rehearsal: Rehearsal) -> Rehearsal:
    with rehearsal.desk() as desk:
        let_go(desk, rehearsal.settings)
    assert rehearsal.arrived == 1
    return rehearsal


def with_key(name: str, place: str = "trade") -> Callable[[Rehearsal], None]:
    def change(ready: Rehearsal) -> None:
        line = ready.venue.line
        assert ready.settings.simulator_home is not None
        keys = line["keys"] | {place: line["keys"][name]}
        (ready.settings.simulator_home / "ready.json").write_text(json.dumps(line | {"keys": keys}))

    return change


def at_the_venue(path: str, body: object) -> Callable[[Rehearsal], None]:
    return lambda ready: ready.venue.control(path, body)


def unanswered(endpoint: str) -> Callable[[Rehearsal], None]:
    return at_the_venue("faults", {"kind": "error_500", "endpoint": endpoint, "count": 1000})


def no_anchors(ready: Rehearsal) -> None:
    anchor_file(ready.settings).path.unlink()


def strange_anchors(ready: Rehearsal) -> None:
    """The file of another ledger, or this ledger written anew."""
    path = anchor_file(ready.settings).path
    line = json.loads(path.read_text().splitlines()[-1])
    path.write_text(path.read_text() + json.dumps(line | {"hash": "00" * 32}) + "\n")


EVERY_ORDER: dict[str, tuple[Callable[[Rehearsal], None], str]] = {
    "a key that only views": (with_key("view"), "key_permissions: found a key that may view"),
    "a key that may transfer": (with_key("transfer"), "key_permissions: found a key that may view and trade and transfer"),
    "a second key that trades": (with_key("ed25519", "view"), "view_permissions: found a key that may view and trade"),
    "rights untold": (unanswered("get_api_key_permissions"), "key_permissions: found no answer"),
    "a clock that is off": (at_the_venue("clock", {"skew": 15}), "clock: found"),
    "a clock untold": (unanswered("get_unix_time"), "clock: found no answer"),
    "no anchor": (no_anchors, "anchor: found none"),
    "anchors of another chain": (strange_anchors, "chain: found anchor of row"),
}


@pytest.mark.parametrize("case", EVERY_ORDER)
def test_without_one_of_the_checks_neither_a_buy_nor_a_sale_arrives(ready: Rehearsal, case: str) -> None:
    take_away, words = EVERY_ORDER[case]
    take_away(ready)
    for request in (buy(quantity="0.0005"), sell(quantity="0.0005")):
        count, said = ready.sent(request)
        assert (count, words in said) == (0, True), said


def broken(ready: Rehearsal, amount: str) -> None:
    """Coin that nobody announced comes or goes: a break, and the breaker that it opens."""
    ready.venue.control("deposit", {"currency": "ETH", "amount": amount})
    with ready.desk() as desk:
        desk.pause = lambda _: None  # between looks at a venue whose balances lag
        with hand.at_the_desk(desk):
            assert not reconcile(desk).clean


@pytest.mark.parametrize(("amount", "level", "sales"), [("1", "reduce_only", 1), ("-1", "cancel", 0)])
def test_an_open_break_stops_new_risk_and_the_level_of_its_breaker_says_which_sales_go(
    ready: Rehearsal, amount: str, level: str, sales: int
) -> None:
    broken(ready, amount)
    count, said = ready.sent(buy(quantity="0.0005"))
    assert (count, f"is open ({level})" in said) == (0, True), said
    assert ready.sent(sell(quantity="0.0005"))[0] == sales
    assert ready.sent(replace(sell(quantity="0.0005"), protective=True)) == (1, "")


@pytest.mark.parametrize("amount", ["1", "-1"])
def test_what_a_plan_holds_can_be_flattened_while_the_books_are_not_clean(ready: Rehearsal, amount: str) -> None:
    broken(ready, amount)
    before = ready.arrived
    with ready.desk() as desk:
        desk.pause = lambda _: None
        (done,) = flatten(desk, "out, whatever the books say")
    assert (done.product, done.said, done.left) == ("BTC-USD", "", 0)
    assert done.sold > 0
    assert ready.arrived > before


def test_what_a_plan_holds_cannot_be_flattened_while_the_chain_is_not_the_ledgers(ready: Rehearsal) -> None:
    strange_anchors(ready)
    before = ready.arrived
    with ready.desk() as desk:
        (done,) = flatten(desk, "out")
    assert "chain: found anchor of row" in done.said
    assert ready.arrived == before


def test_never_reconciled_means_no_order(rehearsal: Rehearsal) -> None:
    count, said = rehearsal.sent(buy())
    assert (count, rehearsal.arrived) == (0, 0)
    assert said
    with rehearsal.desk() as desk, hand.at_the_desk(desk):
        failed = {check.name: check.found for check in desk.check_safety().failed}
    assert failed["reconciled"].startswith("never")
    assert set(failed) >= {"reconciled", "breaker", "arming"}


def tripped(ready: Rehearsal) -> None:
    with ready.desk() as desk:
        hand.trip(desk, f"portfolio:{desk.book}", Level.REDUCE_ONLY, "a drill")


def disarmed(ready: Rehearsal) -> None:
    with ready.desk() as desk:
        rollout.disarm(desk, "enough")


RISK_ONLY: dict[str, tuple[Callable[[Rehearsal], None], Plan, str]] = {
    "fees untold": (unanswered("get_transaction_summary"), PLAN, "fee"),
    "another product that takes cancels only": (
        at_the_venue("products", {"product_id": "ETH-USD", "cancel_only": True}),
        PLAN,
        "products: found ETH-USD closed by its flags",
    ),
    "another product that is disabled": (
        at_the_venue("products", {"product_id": "ETH-USD", "trading_disabled": True}),
        PLAN,
        "products: found ETH-USD closed by its flags",
    ),
    "arming": (disarmed, PLAN, "arming: found expired"),
    "breaker": (tripped, PLAN, "is open"),
    "ramp": (lambda _: None, PLAN.model_copy(update={"ramp": plan(ramp={"steps": ["500"]}).ramp}), "ramp: found capital 1000"),
}


@pytest.mark.parametrize("case", RISK_ONLY)
def test_what_binds_new_risk_only_lets_no_risk_be_added_and_exits_go(ready: Rehearsal, case: str) -> None:
    take_away, trades, words = RISK_ONLY[case]
    take_away(ready)
    count, said = ready.sent(buy(quantity="0.0005"), trades)
    assert (count, words in said) == (0, True), said
    assert ready.sent(sell(quantity="0.0005"), trades) == (1, "")


def test_an_arming_ends_by_itself(ready: Rehearsal) -> None:
    with ready.desk() as desk:
        desk.wall = lambda: wall_clock() + timedelta(hours=1, seconds=5)
        before = ready.arrived
        assert "arming: found expired" in hand.place(desk, buy(quantity="0.0005")).message
        assert ready.arrived == before


def test_no_arming_lasts_longer_than_a_day(rehearsal: Rehearsal) -> None:
    with rehearsal.desk() as desk, pytest.raises(ConfigurationError, match="at most 1 day"):
        rollout.arm(desk, timedelta(hours=24, seconds=1), "too long")


def test_the_halt_file_stops_every_order(ready: Rehearsal) -> None:
    (ready.settings.home / "HALT").write_text("a drill")
    for request in (buy(quantity="0.0005"), sell(quantity="0.0005")):
        count, said = ready.sent(request)
        assert (count, "halted by" in said) == (0, True), said


def test_what_was_taken_away_and_came_back_lets_orders_go_again(ready: Rehearsal) -> None:
    ready.venue.control("products", {"product_id": "ETH-USD", "cancel_only": True})
    assert ready.sent(buy(quantity="0.0005"))[0] == 0
    ready.venue.control("products", {"product_id": "ETH-USD", "cancel_only": False})
    assert ready.sent(buy(quantity="0.0005")) == (1, "")


def test_a_cycle_with_a_failed_check_settles_and_reconciles_and_sends_nothing(ready: Rehearsal) -> None:
    unanswered("get_api_key_permissions")(ready)
    before = ready.arrived
    with ready.desk() as desk:
        cycle = cycles.run(desk)
    assert ready.arrived == before
    assert cycle.reconciliation is not None
    assert cycle.reconciliation.clean
    assert Decimal(cycle.summary["equity"]["equity"]) > 0
    assert cycle.market_at <= datetime.now(UTC)
