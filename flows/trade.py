"""The trade cycle as a Prefect flow: the steps of `trading.cycle`, one task each, in a straight line."""

from __future__ import annotations

from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from config.anchors import anchor_after
from config.desk import open_desk
from flows.parameters import PlanParameters
from tasks import cycle as step
from tasks.alerts import alert
from tasks.policy import RUN
from tasks.publishing import outcome, publish, show
from tasks.runtime import author, due, run_name, warm_up
from trading.cycle import Cycle, concluded
from trading.desk import Desk
from trading.orders import Mode

warm_up()


def _name() -> str:
    return run_name(flow_run.parameters["params"].plan)


@flow(name="trade", flow_run_name=_name, log_prints=True, **RUN)
def trade(params: PlanParameters) -> State[str]:
    """Decides and trades one slot of a plan on paper, then reconciles and reports.

    A scheduled run takes the candle that closed at its scheduled time; a run by hand takes the last closed one. A slot
    that was traded already, or that is stale, trades nothing and says so.
    """
    with open_desk(params.plan, mode=Mode.PAPER, author=author) as desk:
        cycle = cycle_as_tasks(desk, due())
        anchor_after(desk)
        alert(desk)
        return outcome(cycle)


def cycle_as_tasks(desk: Desk, at: datetime | None) -> Cycle:
    """The steps of `trading.cycle.run`, each as a task, and the page that tells of them."""
    work = step.claim_slot(lambda: desk, at)
    with concluded(desk, work.cycle):
        work = step.settle_orders(work)
        work = step.fetch_prices(work)
        work = step.evaluate_signals(work)
        work = step.validate_orders(work)
        work = step.check_breaker(work)
        work = step.execute(work)
        work = step.reconcile(work)
        publish(work)
    show(work)
    return work.cycle
