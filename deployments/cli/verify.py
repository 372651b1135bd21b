"""Proof: chain, books and invariants."""

from __future__ import annotations

from deployments.cli.console import Json, fail, ledger, print_json, print_table


def verify(as_json: Json = False) -> None:
    """Every check of the ledger by name; status 1 and a list when anything is off."""
    from trading.store.verify import verify as prove

    found = prove(ledger())
    if as_json:
        print_json(found.to_dict())
    else:
        rows = [
            {"check": check.name, "verdict": "ok" if check.ok else "BROKEN", "found": "\n".join(check.found)}
            for check in found.checks
        ]
        print_table("Verify", rows, ("check", "verdict", "found"), "No checks.")
    if not found.ok:
        broken = ", ".join(check.name for check in found.checks if not check.ok)
        raise fail("not_proved", f"{broken}: stop trading and look; nothing was changed")
