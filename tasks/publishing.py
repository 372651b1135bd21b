"""Publishing: the end of the slot in the ledger, then the run's summary as an artifact and as the state that the UI shows."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed

from tasks.cycle import Work
from tasks.policy import READ
from trading import cycle as steps
from trading.cycle import Cycle
from trading.summary import headline, to_markdown


@task(name="publish", **READ)
def publish(work: Work) -> None:
    """Ends the slot in the ledger."""
    steps.publish(work.desk, work.cycle)


@task(name="show", **READ)
def show(work: Work) -> None:
    """Shows the summary as an artifact. By then the portfolio is given back: a server that hangs keeps nobody waiting."""
    plan, cycle = work.desk.plan.name, work.cycle
    page = to_markdown(cycle.summary, links=[("Latest daily report", artifact_address(f"report-{plan}"))])
    if cycle.quality is not None:
        page += "\n" + cycle.quality.to_markdown()
    create_markdown_artifact(key=f"trade-{plan}", markdown=page, description=headline(cycle.summary))
    get_run_logger().info(headline(cycle.summary))


def outcome(cycle: Cycle) -> State[str]:
    """`Completed`, or `Skipped` when the slot was not traded; the message says what happened."""
    line = headline(cycle.summary)
    return Completed(message=line) if cycle.trades else Completed(name="Skipped", message=line)


def artifact_address(key: str) -> str:
    """Where the UI shows the newest artifact of a key."""
    return f"{(PREFECT_API_URL.value() or '').removesuffix('/api')}/artifacts/key/{key}"
