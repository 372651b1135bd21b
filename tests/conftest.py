"""What every test may ask for: a real Postgres for the session, and a fresh ledger database for each test."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from config.postgres import EmbeddedPostgres, find_binaries
from trading.store.database import connect, engine, migrate
from trading.store.reports import Reports

TEMPLATE = "keel_template"
_numbers = itertools.count()

settings.register_profile("keel", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("keel")
# A background job of a script is born deaf to Ctrl-C, and so would be every process that a test starts and stops by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A real server in a folder of its own, with a migrated template database."""
    binaries = find_binaries(Path(named) if (named := os.environ.get("KEEL_PG_BIN")) else None)
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), binaries, os.environ.get("KEEL_PG_USER"))
    server.start()
    server.create_database(TEMPLATE)
    migrate(server.url(TEMPLATE))
    yield server
    server.stop()


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A fresh ledger, migrated."""
    name = f"keel_{os.getpid()}_{next(_numbers)}"
    with connect(postgres.url("postgres")) as admin:
        admin.execute(psycopg.sql.SQL("create database {} template {}").format(*map(psycopg.sql.Identifier, (name, TEMPLATE))))
    yield postgres.url(name)
    with connect(postgres.url("postgres")) as admin:
        admin.execute(psycopg.sql.SQL("drop database {} with (force)").format(psycopg.sql.Identifier(name)))


@pytest.fixture
def reports(database_url: str) -> Iterator[Reports]:
    """The readings of that ledger."""
    bind = engine(database_url)
    yield Reports(bind)
    bind.dispose()


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded market data; the test is skipped where `KEEL_RECORDED` does not name it."""
    folder = os.environ.get("KEEL_RECORDED")
    if not folder:
        pytest.skip("KEEL_RECORDED is not set: no recorded market data on this machine")
    if not (Path(folder) / "data").is_dir():
        pytest.fail(f"KEEL_RECORDED={folder}: no folder data/ in it")
    return Path(folder)
