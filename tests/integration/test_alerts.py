"""Alerts by the real Apprise, to a mail server and a webhook on loopback, about what a real ledger says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed

from config.alerts import Alerts, failures
from config.clock import wall_clock
from config.settings import Settings
from flows.live import trade
from tasks.alerts import told
from tasks.policy import RUN
from tests.builders.plans import NOON, buy
from tests.builders.post import Hook, Mailbox, serving
from tests.builders.venues import quick_desk
from trading import hand
from trading.cycle import run
from trading.desk import Desk
from trading.incidents import incidents
from trading.reconcile import reconcile
from trading.risk import Cause, Level
from trading.store.halting import tighten
from trading.store.verify import verify


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    server = Mailbox()
    with serving(server):
        yield server


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    with serving(server):
        yield server


@pytest.fixture
def settings(tmp_path: Path, mailbox: Mailbox, hook: Hook) -> Settings:
    mail = f"mailto://127.0.0.1:{mailbox.port}?from=keel@example.com&to=anna@example.com&mode=insecure"
    web = f"json://keel:hunter22@127.0.0.1:{hook.port}/alerts"
    return Settings(home=tmp_path, alerts=f"critical={mail} {web}", alert_hosts="127.0.0.1")


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    with quick_desk(database_url) as opened:
        run(opened)
        yield opened
    assert verify(database_url).ok


def trip(desk: Desk, level: Level, scope: str = "global") -> None:
    tighten(desk.journal, scope, level, "password=hunter22 was wrong", NOON, actor="test", cause=Cause.PERSON)


def test_an_open_breaker_reaches_mail_and_webhook_once(desk: Desk, settings: Settings, mailbox: Mailbox, hook: Hook) -> None:
    trip(desk, Level.CANCEL)
    for _ in range(3):
        assert Alerts(settings).tell(incidents(desk.books.connection), wall_clock()) == []
    [mail] = mailbox.messages
    [body] = hook.bodies
    assert "Tradekeel critical: breaker global is open at cancel" in mail.replace("\r\n ", " ")
    assert "breaker global is open at cancel" in body["title"]
    for part in ("Still works:", "Owner: operator", "docs/runbook.md", "<hidden>"):
        assert part in body["message"]
    assert "hunter22" not in mail + str(hook.bodies)


def test_a_mere_reduction_is_a_warning_that_no_mail_is_for(desk: Desk, settings: Settings, mailbox: Mailbox, hook: Hook) -> None:
    trip(desk, Level.REDUCE_ONLY)
    Alerts(settings).tell(incidents(desk.books.connection), wall_clock())
    assert (len(mailbox.messages), len(hook.bodies)) == (0, 1)
    trip(desk, Level.CANCEL)
    Alerts(settings).tell(incidents(desk.books.connection), wall_clock())
    assert (len(mailbox.messages), len(hook.bodies)) == (1, 2)


def test_a_break_tells_what_it_means_and_whose_it_is(desk: Desk, settings: Settings, hook: Hook) -> None:
    hand.place(desk, buy())
    desk.exchange.held["BTC"] += 1  # type: ignore[attr-defined]
    reconcile(desk)
    Alerts(settings).tell(incidents(desk.books.connection), wall_clock())
    [body] = hook.bodies
    assert "the venue has more than the ledger, without a source" in body["message"]
    assert "BTC is frozen" in body["message"]
    assert "Owner: operator" in body["message"]


def test_a_server_that_refuses_is_an_alarm_itself_and_is_told_later(
    desk: Desk, settings: Settings, mailbox: Mailbox, hook: Hook
) -> None:
    trip(desk, Level.CANCEL)
    mailbox.refuses, hook.status = True, 500
    found = Alerts(settings).tell(incidents(desk.books.connection), wall_clock())
    assert {failure.destination for failure in found} == {"mailto://127.0.0.1", "json://127.0.0.1"}
    assert failures(settings) == found
    assert "hunter22" not in str(found) + (settings.home / "alerts.json").read_text()
    mailbox.refuses, hook.status = False, 200
    assert Alerts(settings).tell(incidents(desk.books.connection), wall_clock()) == []
    assert (len(mailbox.messages), len(hook.bodies)) == (1, 1)


def test_a_run_records_what_it_could_not_deliver_and_that_stops_no_trading(
    desk: Desk, settings: Settings, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEL_HOME", str(settings.home))
    monkeypatch.setenv("KEEL_ALERTS", f"json://127.0.0.1:{hook.port}")
    monkeypatch.setenv("KEEL_ALERT_HOSTS", "127.0.0.1")
    trip(desk, Level.CANCEL)
    hook.status = 500
    [failure] = told(desk)
    rows = desk.books.connection.execute("select kind, ok, detail from keel.operation where kind = 'alert'").fetchall()
    assert rows == [("alert", False, f"{failure.destination}: {failure.why}")]
    assert desk.books.errors(desk.book, desk.plan.name)[0] == 0
    monkeypatch.setenv("KEEL_ALERTS", "json://elsewhere.example")
    [refused] = told(desk)
    assert "KEEL_ALERT_HOSTS" in refused.why


def test_a_worker_tells_of_a_run_that_died_by_a_hook_that_it_calls_by_its_parameters_names(
    settings: Settings, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("HOME", settings.home), ("ALERTS", settings.alerts.get_secret_value()), ("ALERT_HOSTS", "127.0.0.1")):
        monkeypatch.setenv(f"KEEL_{name}", str(value))
    (tell,) = RUN["on_crashed"]
    tell(flow=trade, flow_run=FlowRun(name="rehearsal", flow_id=uuid4()), state=Crashed(message="killed"))
    assert any("run rehearsal of trade: crashed" in str(body) for body in hook.bodies)
