"""What the stack asks the pipeline to do; the stack itself knows nothing of plans and ledgers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from config.settings import Settings
from deployments.stack.declared import CheckSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Calls into the pipeline."""

    migrate: Callable[[str], None]
    """(ledger's URL): brings the schema to this version."""
    check_schedule: CheckSchedule
    summary: Callable[[str, str], str | None]
    """(ledger's URL, flow-run id): what that run saw, decided and did, as text; None when it wrote no cycle."""
    beat: Callable[[str, bool], None] = lambda _url, _stopped: None
    """(ledger's URL, whether the stack ends): says that server and worker are well. Raises KeelError."""


def pipeline_hooks(settings: Settings) -> Hooks:
    """The real ones."""
    from config.snapshots import ready

    return Hooks(migrate=lambda url: ready(url, settings), check_schedule=_checks_plans(settings), summary=_summary,
                 beat=_beats(settings))  # fmt: skip


def _beats(settings: Settings) -> Callable[[str, bool], None]:
    def beat(url: str, stopped: bool) -> None:
        from config.vitals import code_version, configuration
        from trading.store.heartbeats import beat as say

        say(url, "stack", code_version(), configuration(settings), stopped=stopped)

    return beat


def _checks_plans(settings: Settings) -> CheckSchedule:
    def check(deployment: str, cron: str, parameters: Mapping[str, Any]) -> None:
        from config.plans import load_plan
        from deployments.stack.schedules import cron_fits
        from trading.errors import ConfigurationError
        from trading.market import interval_seconds

        plan_name = (parameters.get("params") or {}).get("plan")
        if not deployment.startswith("trade/") or plan_name is None:
            return
        plan = load_plan(plan_name, os.environ, settings.plans)
        if (settings.market or "").startswith("replay:"):
            return  # a replay goes one slot further per run, whatever the wall clock says
        if not cron_fits(cron, interval_seconds(plan.interval)):
            raise ConfigurationError(
                f"{settings.prefect_yaml}: {deployment}: cron: found {cron!r}, expected one that fires once every "
                f"{plan.interval}, the interval of plan {plan.name}"
            )

    return check


def _summary(url: str, flow_run_id: str) -> str | None:
    from trading.store.database import engine
    from trading.store.reports import Reports, Scope
    from trading.summary import to_text

    bind = engine(url)
    try:
        cycles = Reports(bind).cycles(Scope(), 50)
    finally:
        bind.dispose()
    of_run = [cycle for cycle in cycles if cycle.flow_run_id == flow_run_id and cycle.summary]
    return to_text(of_run[0].summary) if of_run and of_run[0].summary else None
