"""Opening a breaker from the Prefect UI: deployment `breaker/halt`."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from config.settings import load
from flows.parameters import HaltParameters
from tasks.control import open_breaker, unknown_scope
from tasks.policy import RUN


def _name() -> str:
    params: HaltParameters = flow_run.parameters["params"]
    return f"halt {params.scope} {params.level}"


@flow(name="breaker", flow_run_name=_name, **RUN)
def breaker(params: HaltParameters) -> State[str]:
    """Opens a breaker now; at level cancel what rests and adds risk is cancelled. Only a person's resume leads out.

    With Prefect or Postgres in trouble, use `keel halt` or the halt file: those need neither.
    """
    settings = load()
    if problem := unknown_scope(settings, params.scope):
        return Failed(message=problem)
    steps = open_breaker(settings, params.scope, params.level, params.reason)
    line = "; ".join(f"{step.name}: {'' if step.ok else 'NOT DONE: '}{step.said}" for step in steps)
    return Completed(message=line) if all(step.ok for step in steps) else Failed(message=line)
