"""What goes with real orders: the ramp's step back, and the paper shadow of the same slot."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.policy import ONCE
from trading import rollout
from trading.cycle import run
from trading.desk import Desk
from trading.summary import headline, to_markdown


@task(name="check ramp", **ONCE)
def demote(desk: Callable[[], Desk]) -> None:
    """Takes the plan a step of its capital back where there is cause."""
    if cause := rollout.demote_for_cause(desk()):
        get_run_logger().warning("ramp: one step back: %s", cause)


@task(name="shadow on paper", **ONCE)
def shadow(desk: Callable[[], Desk], slot_at: datetime | None) -> None:
    """The same slot on paper, with the summary as an artifact of its own."""
    opened = desk()
    cycle = run(opened, slot_at)
    create_markdown_artifact(
        key=f"shadow-{opened.plan.name}", markdown=to_markdown(cycle.summary), description=headline(cycle.summary)
    )
    get_run_logger().info("shadow: %s", headline(cycle.summary))
