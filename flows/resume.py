"""Leading out of open breakers from the Prefect UI: deployment `breaker/resume`, which asks a person while it runs."""

from __future__ import annotations

from prefect import flow, pause_flow_run
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from flows.parameters import ResumeParameters
from tasks.control import resume
from tasks.policy import RUN

ANSWER_SECONDS = 3600


class Word(RunInput):
    """A person's word: stored for ever with what it led to."""

    name: str = Field(min_length=1, max_length=100, title="Your name")
    reason: str = Field(
        min_length=10, max_length=500, title="Why it may go on", description="What had happened, and what makes it safe now."
    )


def _name() -> str:
    params: ResumeParameters = flow_run.parameters["params"]
    return f"resume {params.plan} {params.mode}"


@flow(name="breaker", flow_run_name=_name, **RUN)
def breaker(params: ResumeParameters) -> State[str]:
    """Asks for a name and a reason, reconciles, and leads the plan's open breakers into their test period.

    On paper that completes it. Where real orders follow it files a request, which `keel resume` completes under a person's login.
    """
    word = pause_flow_run(wait_for_input=Word, timeout=ANSWER_SECONDS)
    done, line = resume(params.plan, params.mode, word.name.strip(), word.reason.strip())
    return Completed(message=line) if done else Failed(message=line)
