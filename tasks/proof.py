"""The hourly proof as tasks: ask every check, halt when one fails, show the table."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact

from config.anchors import evidence
from config.clock import wall_clock
from config.settings import load
from tasks.policy import READ
from tasks.runtime import author
from trading.risk import Level
from trading.store.database import Sessions
from trading.store.halting import halt
from trading.store.journal import Journal
from trading.store.verify import Check, Verification, verify


class Ledger:
    """Where the ledger is; opaque to Prefect, which would show the password in its URL."""

    __slots__ = ("url",)

    def __init__(self, url: str) -> None:
        self.url = url


class Proof:
    """What was found, opaque to Prefect as well: it would look into every check."""

    __slots__ = ("found",)

    def __init__(self, found: Verification) -> None:
        self.found = found


@task(name="ask every check", **READ)
def ask_checks(ledger: Ledger) -> Proof:
    return Proof(verify(ledger.url, evidence(load())))


@task(name="halt on a broken check", **READ)
def halt_if_broken(ledger: Ledger, proof: Proof) -> None:
    """Opens the global breaker at `cancel`: a ledger that is not what it says decides nothing."""
    broken = [check for check in proof.found.checks if not check.ok]
    if broken:
        with Sessions(ledger.url) as sessions:
            halt(Journal(sessions, author), "global", Level.CANCEL, f"verify: {_names(broken)}", wall_clock())


@task(name="publish proof", **READ)
def publish_proof(proof: Proof) -> str:
    """The table of checks as an artifact; returns the headline."""
    checks = proof.found.checks
    broken = [check for check in checks if not check.ok]
    line = f"broken: {_names(broken)}; the global breaker is open" if broken else f"all {len(checks)} checks of the ledger hold"
    rows = [f"| {check.name} | {'ok' if check.ok else '**broken**'} | {_cell(check)} |" for check in checks]
    page = "\n".join([f"# {line}", "", "| check | verdict | found |", "|---|---|---|", *rows]) + "\n"
    create_markdown_artifact(key="verify", markdown=page, description=line)
    return line


def _names(checks: list[Check]) -> str:
    return ", ".join(check.name for check in checks)


def _cell(check: Check) -> str:
    return "<br>".join(found.replace("|", "\\|") for found in check.found)
