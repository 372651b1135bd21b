"""The cycle with real orders as a Prefect flow, and its paper shadow. It runs in a work pool of its own."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from config.anchors import anchor_after
from config.desk import open_desk, open_shadow
from flows.parameters import RealParameters
from flows.trade import cycle_as_tasks
from tasks.alerts import alert
from tasks.policy import RUN
from tasks.publishing import outcome
from tasks.rollout import demote, shadow
from tasks.runtime import author, due, real_run_name, warm_up
from tasks.vitals import watch_machine
from trading.orders import Mode

warm_up()


def _name() -> str:
    params: RealParameters = flow_run.parameters["params"]
    return real_run_name(params.plan, params.mode)


@flow(name="trade", flow_run_name=_name, log_prints=True, **RUN)
def trade(params: RealParameters) -> State[str]:
    """Decides and trades one slot of a plan with real orders, live or in rehearsal; then the same slot on paper.

    While a check of live trading fails, nothing is sent that it forbids: what is live is settled and reconciled, and the
    plan goes on in its paper shadow. So it does when the real part fails altogether; the run then fails as well.
    """
    mode = Mode(params.mode)
    at = due() if mode is Mode.LIVE else None  # a rehearsal goes by the simulator's clock
    try:
        with open_desk(params.plan, mode=mode, author=author) as desk:
            if mode is Mode.LIVE:
                watch_machine(desk)
            cycle = cycle_as_tasks(desk, at)
            demote(lambda: desk)
            anchor_after(desk)
            alert(desk)
            at = cycle.slot_at
            return outcome(cycle)
    finally:
        with open_shadow(params.plan, mode, author=author) as paper:
            shadow(lambda: paper, at)
            anchor_after(paper)
