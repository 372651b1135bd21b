"""The daily reconciliation as a Prefect flow."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from config.anchors import anchor_after
from config.desk import open_desk
from flows.parameters import ReconcileParameters
from tasks.alerts import alert
from tasks.policy import RUN
from tasks.reporting import Shared, prove_decisions, publish_reconciliation, reconcile_positions
from tasks.runtime import author, scheduled_at
from trading.orders import Mode


def _name() -> str:
    return f"reconcile {flow_run.parameters['params'].plan} {scheduled_at():%Y-%m-%d}"


@flow(name="reconcile", flow_run_name=_name, **RUN)
def reconcile(params: ReconcileParameters) -> State[str]:
    """Compares orders, fills and balances of a plan's portfolio with the exchange, and its newest decisions with those that
    the same data lead to now; fails when they differ.
    """
    with open_desk(params.plan, mode=Mode(params.mode), trades=False, author=author) as desk:
        shared = Shared(desk)
        found = reconcile_positions(shared)
        proved = prove_decisions(shared)
        line = publish_reconciliation(shared, found, proved)
        anchor_after(desk)
        alert(desk)
    return Completed(message=line) if found.clean and proved.clean else Failed(message=line)
