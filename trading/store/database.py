"""Connections to Postgres and the roles they act in, migrations, and the translation of its errors into ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from types import TracebackType
from typing import Self

import psycopg
from sqlalchemy import Connection as EngineConnection
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError as EngineError
from sqlalchemy.exc import ProgrammingError

from trading.errors import BooksRefused, ConfigurationError, Fenced, KeelError, LedgerUnavailable, NotAllowed, Stale
from trading.store.roles import Role

Connection = psycopg.Connection[tuple[object, ...]]

# SQLSTATEs that the ledger's own rules raise (trading/store/sql/rules.sql).
_RULES: dict[str, type[KeelError]] = {
    "KE010": BooksRefused,
    "KE011": BooksRefused,
    "KE012": BooksRefused,
    "KE013": BooksRefused,
    "KE020": Stale,
    "KE021": Fenced,
    "KE030": NotAllowed,
    "42501": NotAllowed,  # Postgres's own insufficient_privilege
    "25006": LedgerUnavailable,  # read-only: a standby, or an administrator's doing
}
HEAD = "0003"
"""The newest revision in `migrations/versions`."""
_MIGRATION_LOCK = 0x6B65656C  # "keel": two processes that start at once migrate one after the other


_OPTIONS = "-c timezone=UTC -c statement_timeout=60s -c idle_in_transaction_session_timeout=60s"


def connect(url: str, application: str = "keel", role: Role | None = None) -> Connection:
    """An autocommitting connection: each statement is one transaction unless `transaction()` says otherwise.

    Acts in the role from its first statement on; without one it has its login's own rights. Raises NotAllowed when the login
    may not act in that role, LedgerUnavailable when the database does not answer.
    """
    parsed = make_url(url)
    where = parsed.translate_connect_args(username="user", database="dbname") | dict(parsed.query)
    try:
        connection = psycopg.connect(
            **where,
            autocommit=True,
            application_name=application,
            prepare_threshold=1,
            connect_timeout=10,
            options=_OPTIONS if role is None else f"{_OPTIONS} -c role={role}",
        )
    except psycopg.OperationalError as error:
        if role is not None and f'"{role}"' in str(error):  # a refused connection carries no SQLSTATE
            raise NotAllowed(f"login {parsed.username}: may not act as {role}: {error}") from error
        raise LedgerUnavailable(f"the ledger's database does not answer: {error}") from error
    return connection


class Sessions:
    """The connections of one process to one ledger, one for each role that it acts in; each is opened when first needed.

    A role is a fact of its connection: no step can forget to change it, and changing costs no round trip. Close with `with`.
    `in_roles` is false for a schema of before there were roles: one connection, with the login's own rights.
    """

    def __init__(self, url: str, application: str = "keel", *, in_roles: bool = True) -> None:
        self.url = url
        self.application = application
        self.in_roles = in_roles
        self._opened: dict[Role | None, Connection] = {}

    def __getitem__(self, role: Role) -> Connection:
        key = role if self.in_roles else None
        if key not in self._opened:
            self._opened[key] = connect(self.url, self.application, key)
        return self._opened[key]

    def close(self) -> None:
        """Closes what was opened; locks that were held are gone."""
        for connection in self._opened.values():
            connection.close()
        self._opened.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def engine(url: str) -> Engine:
    """SQLAlchemy's engine over the same database, for reports: it acts as keel_report, which can change nothing."""
    return create_engine(url, pool_pre_ping=True, connect_args={"options": f"-c timezone=UTC -c role={Role.REPORT}"})


@contextmanager
def translated() -> Iterator[None]:
    """Raises our error for what Postgres refused: BooksRefused, Stale or Fenced for the ledger's rules."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise LedgerUnavailable(f"the ledger's database failed: {error}") from error
    except psycopg.Error as error:
        kind = _RULES.get(error.sqlstate or "")
        message = error.diag.message_primary or str(error)
        if kind is None:
            raise BooksRefused(f"the ledger refused a change ({error.sqlstate}): {message}") from error
        raise kind(message) from error


def ensure_schema(url: str, before_upgrade: Callable[[], object] | None = None) -> None:
    """Migrates a database whose schema is not this version's; costs one query when it is.

    `before_upgrade` is called first where the ledger holds anything: once, however many processes start.
    """
    with connect(url) as connection:
        if revision(connection) == HEAD:
            return
    _migrate(url, "upgrade", "head", before_upgrade)


def revision(connection: Connection) -> str | None:
    """The schema's revision; None for a database without one."""
    if connection.execute("select to_regclass('public.migration')").fetchone() == (None,):
        return None
    row = connection.execute("select version_num from public.migration").fetchone()
    return None if row is None else str(row[0])


def migrate(url: str, to: str = "head") -> None:
    """Brings the schema up to a revision. Idempotent; safe when several processes start at once.

    Raises ConfigurationError, with the statements for an administrator, when the login may not make or grant roles.
    """
    _migrate(url, "upgrade", to)


def downgrade(url: str, to: str) -> None:
    """Brings the schema down to an older revision. Raises BooksRefused where rows would be lost; nothing is changed then."""
    _migrate(url, "downgrade", to)


def _migrate(url: str, verb: str, to: str, before: Callable[[], object] | None = None) -> None:
    from alembic import command  # noqa: PLC0415 - 0.3 s that only a start needs
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    from trading.store.migrations import RowsWouldBeLost  # noqa: PLC0415 - as its driver

    with as_file(files("trading.store") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        bind = create_engine(url, connect_args={"options": "-c timezone=UTC"})
        try:
            with bind.begin() as connection:
                connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
                config.attributes["connection"] = connection
                if before is not None and _holds_anything(connection):
                    before()
                getattr(command, verb)(config, to)
        except RowsWouldBeLost as error:
            raise BooksRefused(str(error)) from error
        except CommandError as error:
            raise ConfigurationError(f"revision {to}: {error}") from error
        except EngineError as error:
            raise LedgerUnavailable(f"the ledger's database does not answer: {error.orig}") from error
        except ProgrammingError as error:
            if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
                raise
            raise ConfigurationError(
                f"login {make_url(url).username}: may not migrate the ledger ({error.orig.diag.message_primary}); an "
                f"administrator of the server says once:\n{role_statements(url)}"
            ) from error
        finally:
            bind.dispose()


def _holds_anything(connection: EngineConnection) -> bool:
    """True where another schema than this version's holds audit rows."""
    if connection.execute(text("select to_regclass('public.migration')")).scalar() is None:
        return False
    behind = connection.execute(text("select version_num from public.migration")).scalar() != HEAD
    return behind and bool(connection.execute(text("select exists (select from keel.audit)")).scalar())


def make_roles(connection: Connection) -> None:
    """Makes the roles that the server lacks, and grants them to this login: what a copy needs that is restored elsewhere."""
    with translated():
        connection.execute((files("trading.store") / "sql" / "make_roles.sql").read_bytes())


def role_statements(url: str) -> str:
    """What an administrator runs for a login that owns its database but may not make roles."""
    made = "\n".join(f"create role {role} nologin;" for role in Role)
    login = psycopg.sql.Identifier(make_url(url).username or "").as_string()
    return f"{made}\ngrant {', '.join(Role)} to {login};"
