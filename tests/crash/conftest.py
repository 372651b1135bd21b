"""The venues' processes for the session, and ledgers that do not wait for the disk: a killed process loses no page cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from config.postgres import EmbeddedPostgres
from tests.conftest import TEMPLATE
from tests.crash.exchange import VenueProcess, running
from tests.crash.story import ScriptedPlace
from trading.store.database import connect


@pytest.fixture(scope="session")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VenueProcess]:
    with running(tmp_path_factory.mktemp("venue")) as process:
        yield process


@pytest.fixture(scope="session")
def fresh_ledger(postgres: EmbeddedPostgres) -> Callable[[], str]:
    """Makes a ledger and tells its URL; the breakers that all portfolios share are closed there."""
    made: list[str] = []

    def make() -> str:
        name = f"crash_{len(made)}"
        made.append(name)
        with connect(postgres.url("postgres")) as admin:
            create = psycopg.sql.SQL("create database {} template {}")
            admin.execute(create.format(psycopg.sql.Identifier(name), psycopg.sql.Identifier(TEMPLATE)))
            admin.execute(psycopg.sql.SQL("alter database {} set synchronous_commit = off").format(psycopg.sql.Identifier(name)))
        return postgres.url(name)

    return make


@pytest.fixture(scope="session")
def fresh_place(fresh_ledger: Callable[[], str], venue: VenueProcess) -> Callable[[], ScriptedPlace]:
    """Makes a place over the scripted venue with a ledger of its own."""
    return lambda: ScriptedPlace(fresh_ledger(), port=venue.port)
