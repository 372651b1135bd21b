"""Proof: chain, anchors, books and invariants; and the anchors themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.console import Json, fail, ledger, print_json, print_table

Anchors = Annotated[
    Path | None, typer.Option("--anchors", help="Your own copy of the anchors; by default KEEL_ANCHORS, if it was ever written.")
]
PublicKeys = Annotated[
    list[Path] | None, typer.Option("--public-key", help="PEM of the key that signed them, repeatable; by default this state's.")
]
Url = Annotated[
    str | None, typer.Option("--url", help="Another ledger, such as postgresql://USER:PASSWORD@HOST/keel; only read.")
]


def verify(anchors: Anchors = None, public_key: PublicKeys = None, url: Url = None, as_json: Json = False) -> None:
    """Every check of the ledger by name; status 1 and a list when anything is off. Nothing is changed."""
    from config.anchors import evidence
    from config.postgres import ledger_url
    from config.settings import load
    from trading.store.verify import verify as prove

    settings = load()
    # Another ledger has other anchors than this state folder: they are only looked at when they are named.
    outside = None if url is not None and anchors is None else evidence(settings, anchors, public_key or ())
    where = ledger() if url is None else ledger_url(settings.model_copy(update={"database_url": url}))
    found = prove(where, outside)
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


def anchor(as_json: Json = False) -> None:
    """Sign the head of the audit chain and append it to the file of anchors (KEEL_ANCHORS). Copy that file elsewhere."""
    from config.anchors import anchor_file, write_anchor
    from config.desk import default_author
    from config.settings import load
    from trading.store.database import Sessions
    from trading.store.journal import Journal

    settings = load()
    with Sessions(ledger()) as sessions:
        made = write_anchor(Journal(sessions, default_author), settings)
    if as_json:
        print_json({"seq": made.seq, "hash": made.hash, "at": made.at, "key_id": made.key_id})
    else:
        print(f"Row {made.seq} is anchored in {anchor_file(settings).path} under key {made.key_id}.")
