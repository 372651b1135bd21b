"""What the Prefect server must hold before a worker starts: the pool, the automations, the deployments."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from config.settings import PROJECT
from deployments.stack.declared import Declaration, Declared, Schedule, fingerprint
from trading.errors import ConfigurationError

POOL = "local"
LIVE_POOL = "live"
"""Of runs with real orders: its worker is started by hand (`keel worker`), as the user that may read the key that trades."""
CRASHED_AFTER_SECONDS = 90
HALT = "breaker/halt"
HALT_RUNS = 3
HALT_HOURS = 4
_VERSION = "keel-"

_CRASH_AUTOMATION = AutomationCore.model_validate({
    "name": "keel: runs without a heartbeat are crashed",
    "description": f"A run that is silent for {CRASHED_AFTER_SECONDS} s has lost its process; its turn goes to the next one.",
    "enabled": True,
    "trigger": {
        "type": "event",
        "posture": "Proactive",
        # Also from its start on: a process may die before its first heartbeat.
        "after": ["prefect.flow-run.Running", "prefect.flow-run.heartbeat"],
        "expect": ["prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in
                   ("Completed", "Failed", "Cancelled", "Crashed"))],
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": CRASHED_AFTER_SECONDS,
    },
    "actions": [{"type": "change-flow-run-state", "state": "CRASHED", "message": f"no heartbeat for {CRASHED_AFTER_SECONDS} s"}],
})  # fmt: skip


async def provision(client: PrefectClient, file: Path, declared: Declared) -> bool:
    """Brings the server in line with the file's declarations; False when it already was. Raises ConfigurationError."""
    version = _VERSION + fingerprint(file, declared)
    present = {f"{flow}/{deployment.name}": deployment for flow, deployment in await _deployments(client)}
    wanted = {declaration.full_name for declaration in declared.deployments}
    ours = {name for name, deployment in present.items() if (deployment.version or "").startswith(_VERSION)}
    await _ensure(client, _CRASH_AUTOMATION)
    if ours == wanted and all(present[name].version == version for name in wanted):
        await _ensure_halts(client, declared)
        return False
    for declaration in declared.deployments:
        await _deploy(client, declared, declaration, version)
    for name in ours - wanted:  # its schedule would go on firing
        await client.delete_deployment(present[name].id)
    await _ensure_halts(client, declared)
    return True


async def ensure_pools(client: PrefectClient) -> None:
    """The pool of the local worker, not paused (draining pauses it), and that of the live one."""
    for name in (POOL, LIVE_POOL):
        try:
            await client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        except ObjectAlreadyExists:
            if name == POOL:
                await client.update_work_pool(name, WorkPoolUpdate(is_paused=False))


async def _ensure(client: PrefectClient, wanted: AutomationCore) -> None:
    present = await client.read_automations_by_name(wanted.name)
    if not present:
        await client.create_automation(wanted)
    elif AutomationCore.model_validate(present[0].model_dump(include=set(AutomationCore.model_fields))) != wanted:
        await client.update_automation(present[0].id, wanted)


async def _ensure_halts(client: PrefectClient, declared: Declared) -> None:
    """The automation that opens the breaker, where the file declares the deployment that it runs."""
    if any(declaration.full_name == HALT for declaration in declared.deployments):
        await _ensure(client, halt_automation(str((await client.read_deployment_by_name(HALT)).id)))


def halt_automation(deployment_id: str) -> AutomationCore:
    """Runs `breaker/halt` once runs with real orders fail or crash again and again. A single crash is settled by the next run."""
    reason = f"{HALT_RUNS} live runs failed or crashed within {HALT_HOURS} hours"
    return AutomationCore.model_validate({
        "name": "keel: live runs that keep failing open the breaker",
        "description": f"After {reason}: no new orders, until a person resumes.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "expect": ["prefect.flow-run.Failed", "prefect.flow-run.Crashed"],
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": {"prefect.resource.id": "prefect.tag.live", "prefect.resource.role": "tag"},
            "threshold": HALT_RUNS,
            "within": HALT_HOURS * 3600,
        },
        "actions": [{
            "type": "run-deployment", "source": "selected", "deployment_id": deployment_id,
            "parameters": {"params": {"scope": "global", "level": "no_new", "reason": reason}},
        }],
    })  # fmt: skip


async def _deployments(client: PrefectClient) -> list[tuple[str, DeploymentResponse]]:
    """Every deployment with its flow's name."""
    deployments = await client.read_deployments()
    flows = {identity: (await client.read_flow(identity)).name for identity in {found.flow_id for found in deployments}}
    return [(flows[deployment.flow_id], deployment) for deployment in deployments]


async def _deploy(client: PrefectClient, declared: Declared, declaration: Declaration, version: str) -> None:
    with chdir(PROJECT):  # Prefect looks for what a flow imports in the present folder first: that may be another checkout
        flow = load_flow_from_entrypoint(str(PROJECT / declaration.entrypoint), use_placeholder_flow=False)
    if flow.name != declaration.flow_name:
        raise ConfigurationError(
            f"{declaration.entrypoint}: found a flow named {flow.name!r}, expected its function's name, {declaration.flow_name!r}"
        )
    await client.create_deployment(
        flow_id=await client.create_flow_from_name(flow.name),
        name=declaration.name,
        version=version,
        description=declaration.description or flow.description,
        entrypoint=declaration.entrypoint,
        pull_steps=declared.pull,
        tags=declaration.tags,
        parameters=declaration.parameters,
        parameter_openapi_schema=parameter_schema(flow).model_dump(exclude_unset=True),
        enforce_parameter_schema=declaration.enforce_parameter_schema,
        schedules=[_schedule(schedule) for schedule in declaration.schedules],
        concurrency_limit=declaration.concurrency_limit.limit,
        concurrency_options=ConcurrencyOptions.model_validate(declaration.concurrency_limit.model_dump(exclude={"limit"})),
        work_pool_name=declaration.work_pool.name,
        work_queue_name=declaration.work_pool.work_queue_name,
        job_variables=declaration.work_pool.job_variables,
    )


def _schedule(schedule: Schedule) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(
        schedule=CronSchedule(cron=schedule.cron, timezone=schedule.timezone), active=schedule.active, slug=schedule.slug
    )
