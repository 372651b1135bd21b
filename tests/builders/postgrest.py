"""A stand-in for Supabase's REST side: PostgREST's upsert over a real Postgres that `deployments/supabase.sql` was applied to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, LiteralString, cast
from urllib.parse import parse_qs, urlsplit

import psycopg

from config.settings import PROJECT
from trading.store.database import Connection, connect

KEY = "service-key-of-a-test"
_ROLES = """do $$ begin
  create role anon nologin; create role authenticated nologin; create role service_role nologin bypassrls;
exception when duplicate_object then null; end $$"""


class Supabase:
    """The project: its database, its REST address, and switches for what may go wrong on the way."""

    def __init__(self, database: str, port: int) -> None:
        self.database, self.address = database, f"http://127.0.0.1:{port}"
        self.is_down = False
        self.loses_answers = 0
        """So many next requests are done, and their answer is lost."""
        self.requests: list[tuple[str, int]] = []
        """(table, rows) of every request that was taken."""

    def rows(self, table: str) -> list[dict[str, Any]]:
        with connect(self.database) as connection:
            found = connection.execute(cast("LiteralString", f"select to_jsonb(x) from public.{table} x order by key")).fetchall()
        return [cast("dict[str, Any]", row[0]) for row in found]


@contextmanager
def supabase(database: str) -> Iterator[Supabase]:
    """A project over an empty database, gone at the end of the block."""
    with connect(database) as connection:
        connection.execute(_ROLES)
        apply(connection)
        connection.execute("grant usage on schema public to anon, authenticated, service_role")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.project = project = Supabase(database, server.server_port)  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield project
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def apply(connection: Connection) -> None:
    connection.execute((PROJECT / "deployments" / "supabase.sql").read_bytes())


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        project: Supabase = self.server.project  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if project.is_down:
            self._answer(503, "upstream is down")
            return
        status, said = self._upsert(project, body)
        if project.loses_answers:
            project.loses_answers -= 1
            self.close_connection = True
            return
        self._answer(status, said)

    def _upsert(self, project: Supabase, body: bytes) -> tuple[int, str]:
        url = urlsplit(self.path)
        table = re.fullmatch(r"/rest/v1/([a-z_]+)", url.path)
        headers = {name: self.headers[name] for name in ("apikey", "Authorization", "Content-Type", "Prefer")}
        expected = {"apikey": KEY, "Authorization": f"Bearer {KEY}", "Content-Type": "application/json",
                    "Prefer": "resolution=merge-duplicates,return=minimal"}  # fmt: skip
        if headers["apikey"] != KEY:
            return 401, "Invalid API key"
        if table is None or headers != expected or parse_qs(url.query) != {"on_conflict": ["key"]}:
            return 400, f"found {self.path} {headers}"
        rows = json.loads(body)
        if not rows or any(row.keys() != rows[0].keys() for row in rows):
            return 400, "PGRST102: All object keys must match"
        try:
            _insert(project.database, table.group(1), list(rows[0]), body.decode())
        except psycopg.Error as error:
            return 400, str(error)
        project.requests.append((table.group(1), len(rows)))
        return 201, ""

    def _answer(self, status: int, said: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(said.encode())))
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing is printed: the key is among the headers."""


def _insert(database: str, table: str, columns: list[str], body: str) -> None:
    name, names = psycopg.sql.Identifier("public", table), [psycopg.sql.Identifier(column) for column in columns]
    query = psycopg.sql.SQL(
        "insert into {table} ({names}) select {names} from jsonb_populate_recordset(null::{table}, %s::jsonb) "
        "on conflict (key) do update set ({names}) = row({excluded})"
    ).format(
        table=name, names=psycopg.sql.SQL(", ").join(names),
        excluded=psycopg.sql.SQL(", ").join(psycopg.sql.SQL("excluded.") + column for column in names),
    )  # fmt: skip
    with connect(database) as connection:
        connection.execute("set role service_role")
        connection.execute(query, (body,))
