"""The daily report as a Prefect flow."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from config.desk import ledger_of
from flows.parameters import ReportParameters
from tasks.policy import RUN
from tasks.reporting import Books, gather_figures, publish_report, write_report
from tasks.runtime import scheduled_at
from trading.orders import Mode


def _name() -> str:
    return f"report {flow_run.parameters['params'].plan} {scheduled_at():%Y-%m-%d}"


@flow(name="report", flow_run_name=_name, **RUN)
def report(params: ReportParameters) -> State[str]:
    """Profit and loss of a plan, its statistics, orders and positions: an artifact, and an HTML page with charts."""
    url, portfolio = ledger_of(params.plan, Mode(params.mode))
    page = gather_figures(Books(url, params.mode, portfolio, params.plan), params.days)
    return Completed(message=publish_report(page, params.plan, write_report(page, params.plan)))
