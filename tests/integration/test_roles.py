"""Who may do what in the database: every role at every table with every verb, and every role with every change."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from config.desk import assembled, open_desk
from config.postgres import APP, DATABASE, PERSON, EmbeddedPostgres, embedded, ledger_url, person_url
from config.settings import PROJECT, Settings
from tests.builders.plans import plan
from tests.builders.venues import QuietMarket, quick_desk
from trading import cycle as cycles
from trading.desk import open_books
from trading.errors import ConfigurationError, NotAllowed
from trading.risk.breaker import BreakerState
from trading.store.database import Connection, Sessions, connect, migrate, role_statements, translated
from trading.store.journal import ROLE_OF, Author, Change, Journal
from trading.store.roles import Role
from trading.store.verify import verify

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ACTING = (Role.DECIDE, Role.EXECUTE, Role.RECONCILE, Role.REPORT, Role.HUMAN, Role.VENUE)
READS_LEDGER = (Role.DECIDE, Role.EXECUTE, Role.RECONCILE, Role.REPORT, Role.HUMAN)
VERBS = ("select", "insert", "update", "delete", "truncate")

# (roles, tables) -> what they may. All that stands in no line is refused.
RIGHTS: tuple[tuple[tuple[Role, ...], str, tuple[str, ...]], ...] = (
    (READS_LEDGER, "keel.*", ("select",)),
    ((Role.DECIDE,), "keel.series", ("select", "insert")),
    ((Role.DECIDE,), "keel.candle", ("select", "insert")),
    ((Role.VENUE,), "paper.*", ("select",)),
)

# Which change each role may write: D decide, E execute, R reconcile, H human. Nobody else writes any.
CHANGES = {
    "accounts": "DERH", "anchors": "R", "announcements": "H", "armings": "H", "breakers": "DRH", "breaks": "ER",
    "configuration": "DH", "cycles": "D", "decisions": "D", "epochs": "H", "equity": "D", "evaluations": "DH", "events": "ER",
    "fills": "ER",
    "holds": "DER", "intents": "D", "lots": "ERH", "matches": "ERH", "movements": "R", "operations": "DER",
    "portfolios": "D", "ramp_steps": "RH", "postings": "DERH", "reconciliations": "R", "resolutions": "H",
    "transactions": "DERH", "venue_balances": "R", "venue_orders": "R", "verdicts": "D", "no such change": "",
}  # fmt: skip
LETTER = {Role.DECIDE: "D", Role.EXECUTE: "E", Role.RECONCILE: "R", Role.HUMAN: "H", Role.REPORT: "-", Role.VENUE: "-"}

CALLS = {
    "keel.trip": (Role.DECIDE, Role.HUMAN),
    "keel.beat": (Role.DECIDE,),
    "keel.mirrored": (Role.DECIDE,),
    "keel.claim_slot": (Role.DECIDE,),
    "keel.mark_sending": (Role.EXECUTE,),
    "keel.record": (Role.DECIDE, Role.EXECUTE, Role.RECONCILE, Role.HUMAN),
    "keel.portfolio_state": READS_LEDGER,
    "keel.sent_lately": READS_LEDGER,
    "keel.acting_role": READS_LEDGER,
    "keel.armed_until": READS_LEDGER,
    "keel.changes_of": READS_LEDGER,
    "paper.add_deposit": (Role.VENUE,),
    "paper.book": (),
    "paper.cancel": (Role.VENUE,),
    "paper.place": (Role.VENUE,),
    "paper.progress": (Role.VENUE,),
}
"""Function -> who may call it; of `keel`, nobody may call any other one. Every other one of `paper` is the venue's."""


def may(role: Role, table: str, verb: str) -> bool:
    """What `RIGHTS` says."""
    schema = table.split(".", maxsplit=1)[0]
    return any(role in roles and name in (table, f"{schema}.*") and verb in verbs for roles, name, verbs in RIGHTS)


@contextmanager
def one_try(connection: Connection) -> Iterator[None]:
    """What is done inside is undone, and raises our error."""
    with translated(), connection.transaction(force_rollback=True):
        yield


def refused(connection: Connection, statement: SQL | psycopg.sql.Composed) -> bool:
    """True if Postgres says that this role may not; any other answer means that it may."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    except psycopg.Error:
        return False
    return False


def statement(table: str, verb: str) -> psycopg.sql.Composed:
    texts = {
        "select": "select from {}", "insert": "insert into {} default values", "delete": "delete from {}",
        "truncate": "truncate {} cascade", "update": "update {} set {column} = {column}",
    }  # fmt: skip
    return SQL(texts[verb]).format(Identifier(*table.split(".")), column=Identifier(COLUMNS.get(table, "book")))


COLUMNS: dict[str, str] = {}


@pytest.mark.parametrize("role", ACTING)
def test_every_role_may_do_to_every_table_what_the_list_says_and_nothing_else(database_url: str, role: Role) -> None:
    with connect(database_url) as owner:
        columns = owner.execute(
            """select table_schema || '.' || table_name, min(column_name) from information_schema.columns
               join pg_class c on c.oid = (table_schema || '.' || table_name)::regclass and c.relkind = 'r'
               where table_schema in ('keel', 'paper') and is_identity = 'NO' and is_generated = 'NEVER' group by 1"""
        ).fetchall()
    COLUMNS.update((str(table), str(column)) for table, column in columns)
    assert len(COLUMNS) > 30
    with connect(database_url, role=role) as connection:
        found = {(table, verb): not refused(connection, statement(table, verb)) for table in COLUMNS for verb in VERBS}
    wrong = [(table, verb) for (table, verb), allowed in found.items() if allowed != may(role, table, verb)]
    assert wrong == []


@pytest.mark.parametrize("role", ACTING)
@pytest.mark.parametrize("change", CHANGES)
def test_every_role_writes_the_changes_that_are_its_own(database_url: str, role: Role, change: str) -> None:
    with connect(database_url, role=role) as connection:
        try:
            with one_try(connection):
                connection.execute("select keel.record('try', %s, 'anna', '', '')", (json.dumps({change: []}),))
        except NotAllowed:
            allowed = False
        else:
            allowed = True
    assert allowed == (LETTER[role] in CHANGES[change])


def test_every_change_that_the_ledger_knows_stands_in_the_list(database_url: str) -> None:
    query = """select distinct c from unnest('{keel_decide,keel_execute,keel_reconcile,keel_human}'::text[]) r,
               unnest(keel.changes_of(r)) c"""
    with connect(database_url) as owner:
        granted = {str(row[0]) for row in owner.execute(query)}
        rows = owner.execute("select proname from pg_proc where pronamespace = 'keel'::regnamespace and proname ~ '^apply_'")
        applied = {str(row[0]).removeprefix("apply_") for row in rows}
    assert granted >= applied
    assert granted | {"no such change"} == set(CHANGES)


@pytest.mark.parametrize("role", ACTING)
def test_every_role_calls_the_functions_that_the_list_says_and_no_other(database_url: str, role: Role) -> None:
    query = """select p.pronamespace::regnamespace || '.' || proname, has_function_privilege(%s, p.oid, 'execute')
                   and has_schema_privilege(%s, p.pronamespace, 'usage')
               from pg_proc p where pronamespace in ('keel'::regnamespace, 'paper'::regnamespace)"""
    with connect(database_url) as owner:
        found = {str(name): bool(allowed) for name, allowed in owner.execute(query, (role, role))}
    assert found.keys() >= CALLS.keys()
    wanted = {name: role in CALLS.get(name, (Role.VENUE,) if name.startswith("paper.") else ()) for name in found}
    assert found == wanted


def test_what_runs_as_the_owner_is_reached_by_no_search_path(database_url: str) -> None:
    query = "select proname, proconfig, proowner::regrole::text from pg_proc where prosecdef"
    with connect(database_url) as owner:
        found = owner.execute(query).fetchall()
    assert {str(row[0]) for row in found} >= {"record", "claim_slot", "mark_sending", "place"}
    assert {(tuple(row[1]), row[2]) for row in found} == {(("search_path=pg_catalog, pg_temp",), "keel_owner")}  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ACTING)
def test_no_role_switches_the_triggers_off(database_url: str, role: Role) -> None:
    with connect(database_url, role=role) as connection:
        assert refused(connection, SQL("set session_replication_role = replica").format())
        if role is not Role.VENUE:
            assert refused(connection, SQL("alter table keel.posting disable trigger all").format())


def test_an_owner_of_the_cluster_writes_nothing_without_a_role(database_url: str) -> None:
    with connect(database_url) as owner, pytest.raises(NotAllowed, match="writes nothing"), translated():
        owner.execute("""select keel.record('try', '{"operations": []}', 'anna', '', '')""")
    with connect(database_url) as owner, pytest.raises(NotAllowed, match="writes nothing"), one_try(owner):
        owner.execute("select keel.audit_append('try', '', 'anna', '', '')")  # what claim_slot and mark_sending end in


# ---------------------------------------------------------------------------------------------------- the breaker


@pytest.mark.parametrize(
    ("role", "moves"),
    [
        (Role.DECIDE, {"closed open", "half_open open", "half_open closed", "open open"}),
        (Role.RECONCILE, {"closed open", "half_open open", "open open"}),
        (Role.HUMAN, {f"{a} {b}" for a in BreakerState for b in BreakerState}),
    ],
)
def test_only_a_person_leads_a_breaker_out_of_open(database_url: str, role: Role, moves: set[str]) -> None:
    found = set()
    with Sessions(database_url) as sessions, connect(database_url) as owner:
        for before in BreakerState:
            plant_breaker(owner, before)
            found |= {f"{before} {after}" for after in BreakerState if moved(sessions[role], before, after)}
    assert moves <= found
    assert found - moves <= {"closed closed"}


def plant_breaker(owner: Connection, state: BreakerState) -> None:
    with owner.transaction():
        owner.execute("alter table keel.breaker disable trigger breaker_authority")
        owner.execute("delete from keel.breaker")
        owner.execute(
            """insert into keel.breaker
                 (scope, state, level, generation, reason, opened_by, resumed_by, resume_reason, updated_at)
               values ('global', %s, %s, 0, '', '', '', '', now())""",
            (state, "no_new" if state is BreakerState.OPEN else None),
        )
        owner.execute("alter table keel.breaker enable always trigger breaker_authority")


def moved(connection: Connection, before: BreakerState, after: BreakerState) -> bool:
    """Did the ledger take this move? What it did is undone."""
    row = {
        "scope": "global", "state": after, "level": "no_new" if after is BreakerState.OPEN else None, "generation": 1,
        "from_state": before, "reason": "r", "actor": "a", "opened_by": "", "resumed_by": "", "resume_reason": "",
        "violations": [], "updated_at": NOON.isoformat(),
    }  # fmt: skip
    try:
        with one_try(connection):
            connection.execute("select keel.record('b', %s, 'a', '', '')", (json.dumps({"breakers": [row]}),))
    except NotAllowed:
        return False
    return True


# ------------------------------------------------------------------------------------------------------ the logins


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings(home=tmp_path_factory.mktemp("roles"), market="synthetic")
    ledger_url(settings)
    yield settings
    server_of(settings).stop()


def server_of(settings: Settings) -> EmbeddedPostgres:
    return embedded(settings)


def test_a_flow_cannot_become_a_person(home: Settings) -> None:
    with pytest.raises(NotAllowed, match="login keel_app: may not act as keel_human"):
        connect(ledger_url(home), role=Role.HUMAN)
    with connect(ledger_url(home), role=Role.DECIDE) as connection:
        for words in (
            "set role keel_human",
            "set role keel_owner",
            "set role keel_person",
            "set session authorization keel_person",
        ):
            assert refused(connection, SQL(words).format()), words  # type: ignore[arg-type]
    with connect(person_url(home), role=Role.HUMAN) as connection:
        assert connection.execute("select keel.acting_role()").fetchone() == ("keel_human",)


@pytest.mark.parametrize("login", [APP, PERSON])
def test_a_login_without_a_role_may_do_nothing(home: Settings, login: object) -> None:
    url = ledger_url(home) if login is APP else person_url(home)
    with connect(url) as connection:
        assert refused(connection, SQL("select from keel.audit").format())
        assert refused(connection, SQL("select keel.record('try', '{{}}', 'a', '', '')").format())
        assert refused(connection, SQL("select from paper.balance").format())


def test_passwords_are_private(home: Settings) -> None:
    for name in ("password", "keel_app.password", "keel_person.password"):
        assert (server_of(home).root / name).stat().st_mode & 0o077 == 0


def test_a_running_desk_has_no_session_of_a_superuser(home: Settings) -> None:
    with open_desk(settings=home) as desk, connect(server_of(home).url(DATABASE), "the test") as owner:
        cycles.run(desk)
        sessions = owner.execute(
            """select distinct a.usename, r.rolsuper or r.rolcreaterole or r.rolcreatedb from pg_stat_activity a
               join pg_roles r on r.rolname = a.usename where a.datname = %s and a.application_name <> 'the test'""",
            (DATABASE,),
        ).fetchall()
        assert sessions == [("keel_app", False)]
        roles = owner.execute("select distinct role from keel.audit").fetchall()
    assert {str(row[0]) for row in roles} <= {Role.DECIDE, Role.EXECUTE, Role.RECONCILE}
    assert {Role.DECIDE, Role.RECONCILE} <= {str(row[0]) for row in roles}
    assert verify(ledger_url(home)).ok


def test_a_state_folder_of_the_earlier_version_gets_its_logins_at_the_next_start(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    server = server_of(settings)
    server.start()
    try:
        server.create_database(DATABASE)
        migrate(server.url(DATABASE))
        migrate(server.url(DATABASE), "0001")  # as it was left by that version: no logins, the tables of then
        assert not server.is_ready(APP)
        with assembled(plan(), source=QuietMarket({"BTC-USD": "1"}), url=ledger_url(settings)) as desk:
            open_books(desk)
        assert server.is_ready(APP)
        assert server.is_ready(PERSON)
    finally:
        server.stop()


def test_a_lost_password_is_made_anew(home: Settings) -> None:
    (server_of(home).root / "keel_app.password").unlink()
    with connect(ledger_url(home), role=Role.REPORT) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_login_that_may_make_no_roles_is_told_the_statements_that_help(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    server = server_of(settings)
    server.start()
    try:
        with connect(server.url("postgres")) as owner:
            owner.execute("create role plain login password 'plain'")
            owner.execute("create database plain owner plain")
        url = server.url("plain")
        password = (server.root / "password").read_text()
        url = url.replace(f"keel:{password}@", "plain:plain@")
        with pytest.raises(ConfigurationError, match="grant keel_owner, keel_decide") as caught:
            migrate(url)
        with connect(server.url("postgres")) as owner:
            owner.execute(role_statements(url).encode())
        assert role_statements(url) in str(caught.value)
        migrate(url)
        with quick_desk(url) as desk:
            cycles.run(desk)
        assert verify(url).ok
    finally:
        server.stop()


def test_two_databases_of_one_server_share_the_roles(postgres: EmbeddedPostgres) -> None:
    for name in ("keel_second", "keel_third"):
        postgres.create_database(name)
        migrate(postgres.url(name))
        with quick_desk(postgres.url(name)) as desk:
            open_books(desk)
        with connect(postgres.url(name)) as owner:
            written = owner.execute("select role from keel.audit where kind = 'plan.open'").fetchall()
        assert written == [(Role.DECIDE.value,)]


def test_a_change_that_no_role_is_named_for_is_refused_before_it_is_sent(database_url: str) -> None:
    with Sessions(database_url) as sessions, pytest.raises(NotAllowed, match="found no role that writes it"):
        Journal(sessions, lambda: Author("anna")).record("no such kind", Change())


def test_a_person_trips_as_who_decides_and_resumes_as_a_person() -> None:
    assert (ROLE_OF["breaker"], ROLE_OF["breaker.resume"]) == (Role.DECIDE, Role.HUMAN)


def test_the_logins_that_the_page_on_deployment_makes_may_what_it_says_of_them(database_url: str) -> None:
    page = (PROJECT / "docs" / "deployment.md").read_text()
    _, logins = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    wanted = {"keel_stack": {*ACTING} - {Role.HUMAN}, "keel_live": {*ACTING} - {Role.HUMAN}, "keel_desk": {*ACTING}}
    with connect(database_url) as connection, connection.transaction(force_rollback=True):  # logins are all databases' own
        connection.execute(logins)
        for login, roles in wanted.items():
            asked = "select name from unnest(%s::text[]) name where pg_has_role(%s, name, 'member')"
            assert {name for (name,) in connection.execute(asked, (list(Role), login))} == roles
            told = connection.execute(
                "select rolsuper, rolcreaterole, rolcreatedb, rolinherit from pg_roles where rolname = %s", (login,)
            )
            assert told.fetchone() == (False, False, False, False)
