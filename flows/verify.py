"""The hourly proof of the ledger as a Prefect flow."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from config.postgres import ledger_url
from config.settings import load
from config.snapshots import ready
from tasks.policy import RUN
from tasks.proof import Ledger, ask_checks, halt_if_broken, publish_proof
from tasks.runtime import scheduled_at


def _name() -> str:
    return f"verify {scheduled_at():%Y-%m-%dT%H:%M}"


@flow(name="verify", flow_run_name=_name, **RUN)
def verify() -> State[str]:
    """Proves chain, anchors, books and invariants of the whole ledger; opens the global breaker when one does not hold."""
    settings = load()
    ledger = Ledger(ledger_url(settings))
    ready(ledger.url, settings)
    proof = ask_checks(ledger)
    halt_if_broken(ledger, proof)
    line = publish_proof(proof)
    return Completed(message=line) if proof.found.ok else Failed(message=line)
