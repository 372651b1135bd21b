"""Alerting at the end of a run: what is open in the ledger is told to whoever has not heard of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from prefect import Flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State

from config.alerts import Alerts, Failure
from config.clock import wall_clock
from config.settings import load
from trading.desk import Desk
from trading.errors import ConfigurationError
from trading.incidents import Incident, Severity, incidents
from trading.safety import needs_checks
from trading.store.journal import Change


def alert(desk: Desk) -> None:
    """Never fails a run: an alert that could not be delivered is a failed operation, and tried again by the next one."""
    for failure in told(desk):
        get_run_logger().error("alert not delivered to %s: %s", failure.destination, failure.why)


def run_failed(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A hook of every flow: a run that failed or crashed is told once a day for each flow, with the last word it said.

    A worker calls the hooks of a run that died by these parameters' names, its engine calls them by position.
    """
    now = wall_clock()
    incident = Incident(
        key=f"run:{flow.name}:{state.type.value}:{now:%Y-%m-%d}",
        severity=Severity.WARNING,
        title=f"run {flow_run.name} of {flow.name}: {(state.name or state.type.value).lower()}",
        evidence=(state.message or "")[:500],
        still_works="the ledger; the next run settles whatever this one left",
        do="the run's page in the Prefect UI, then `keel status`",
    )
    with suppress(ConfigurationError, OSError):  # shown by `keel status`, and recorded by the next run
        Alerts(load()).tell([incident], now, lasting=())


def unsafe(desk: Desk) -> list[Incident]:
    """That the checks of live trading forbid what this run would have sent: once a day for each set of checks."""
    if not needs_checks(desk.mode) or not desk.safety.failed:
        return []
    failed = desk.safety.failed
    names = ", ".join(check.name for check in failed)
    return [
        Incident(
            key=f"unsafe:{desk.book}:{wall_clock():%Y-%m-%d}:{names}",
            severity=Severity.WARNING,
            title=f"{desk.book} may not {'take new risk' if all(check.risk_only for check in failed) else 'trade'}: {names}",
            evidence="; ".join(map(str, failed))[:500],
            still_works="settling and reconciling of what is live; the paper shadow trades on",
            do=f"keel check-live --mode {desk.mode}",
        )
    ]


def told(desk: Desk) -> list[Failure]:
    """Tells every open breaker and break of the ledger; returns, and records, the destinations that failed."""
    try:
        alerts = Alerts(load())
        found = alerts.tell([*incidents(desk.books.connection), *unsafe(desk)], wall_clock()) if alerts.places else []
    except (ConfigurationError, OSError) as error:
        found = [Failure("all destinations", "", str(error))]
    if found:
        change = Change()
        for failure in found:
            change.add("operations", book=desk.book, plan=desk.plan.name, kind="alert", ok=False,
                       detail=f"{failure.destination}: {failure.why}"[:500])  # fmt: skip
        desk.journal.record("alert.failed", change)
    return found
