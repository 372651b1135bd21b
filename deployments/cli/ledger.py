"""The ledger as a whole: copy it, change its schema, put a copy back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.console import Json, fail, print_json

if TYPE_CHECKING:
    from config.settings import Settings

app = typer.Typer(name="ledger", help="The ledger's database: snapshot, upgrade, downgrade, restore.", no_args_is_help=True)


@app.command("snapshot")
def snapshot(as_json: Json = False) -> None:
    """Copy the whole ledger into a file of KEEL_HOME/snapshots."""
    from config.snapshots import snapshot as take

    file = take(*_ledger())
    print_json({"file": str(file)}) if as_json else print(file)


@app.command("upgrade")
def upgrade() -> None:
    """Bring the ledger to this version's schema; every command does so by itself, after a snapshot."""
    from config.snapshots import latest, ready
    from trading.store.database import HEAD, connect, revision

    url, settings = _ledger()
    with connect(url) as connection:
        before = revision(connection)
    ready(url, settings)
    print(f"The ledger is at revision {HEAD}." if before == HEAD else f"From revision {before} to {HEAD}.")
    if before not in (None, HEAD) and (file := latest(settings)):
        print(f"Newest snapshot: {file}")


@app.command("downgrade")
def downgrade(to: Annotated[str, typer.Argument(help="An older revision, such as 0001.")]) -> None:
    """Bring the schema down for an older version. Refused where books or audit rows would be lost; restore a snapshot then."""
    from config.snapshots import latest, step_down
    from trading.errors import BooksRefused

    url, settings = _ledger()
    offered = latest(settings, to)
    try:
        taken = step_down(url, settings, to)
    except BooksRefused as error:
        way = f"to go back all the same: keel ledger restore {offered}" if offered else f"there is no snapshot of {to}"
        raise fail("rows_would_be_lost", f"{error}; {way}") from None
    print(f"The ledger is at revision {to}. Snapshot taken before: {taken}")


@app.command("restore")
def restore(file: Annotated[Path, typer.Argument(help="A file of KEEL_HOME/snapshots.", exists=True, dir_okay=False)],
            as_json: Json = False) -> None:  # fmt: skip
    """Put a snapshot in the ledger's place. The ledger before is kept, and nothing trades until a person resumes."""
    from config.desk import default_author
    from config.snapshots import restore as put_back

    done = put_back(*_ledger(), file, default_author)
    if as_json:
        print_json(done)
        return
    print(f"The ledger is that of {file.name}: {done.rows} audit rows. The one before is kept as database {done.kept}.")
    if not done.same_history:
        print("The snapshot is not an earlier state of that ledger: nothing of it is in the ledger now.")
    lost = ", ".join(f"{count} {kind}" for kind, count in done.lost.items())
    print(f"Not in it any more: {lost}." if lost else "Nothing was lost by it.")
    if done.anchors is not None:
        print(f"Its anchors are now {done.anchors}.")
    print("Trading is held: reconcile, look at the breaks, then `keel breaker resume`.")


def _ledger() -> tuple[str, Settings]:
    """The ledger's URL at whatever revision it is, and the settings."""
    from config.postgres import owner_url
    from config.settings import load, private_folder

    settings = load()
    private_folder(settings.home)
    return owner_url(settings), settings
