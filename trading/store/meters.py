"""Counts of the ledger that only metrics ask for: fills, refusals by their code, seconds by step of the newest cycle."""

from __future__ import annotations

from trading.store.reports import Reports, Scope


def fill_count(reports: Reports, scope: Scope) -> int:
    """How many executions of the scope stand."""
    query = f"select count(*) as fills from keel.fills x where {scope.where()}"  # noqa: S608 - parts of this project
    return int(reports.mappings(query, **scope.values)[0]["fills"])


def refusals(reports: Reports, scope: Scope) -> dict[str, int]:
    """Code of a check -> how many requests it refused; a request that several checks refused counts for each."""
    query = f"""select c ->> 'code' as code, count(*) as requests
                from keel.evaluation x, jsonb_array_elements(x.body -> 'checks') c
                where not x.approved and not (c ->> 'passed')\\:\\:boolean and {scope.where()} group by 1 order by 1"""  # noqa: S608 - as above
    return {row["code"]: row["requests"] for row in reports.mappings(query, **scope.values)}


def step_seconds(reports: Reports, scope: Scope) -> dict[str, float]:
    """Kind of record -> seconds that the newest finished cycle took until it, each since the record before.

    The claim is the first; steps that recorded nothing are in the next one's.
    """
    query = f"""
      with newest as (
        select started_at, finished_at, flow_run_id from keel.cycle x where {scope.where()} and finished_at is not null
        order by started_at desc limit 1),
      told as (
        select a.seq, a.kind, cast(a.at as timestamptz) as at from keel.audit a, newest n
        where a.at >= to_char(n.started_at - interval '1 second', 'YYYY-MM-DD"T"HH24\\:MI\\:SS')
          and a.flow_run_id = coalesce(n.flow_run_id, '') and cast(a.at as timestamptz) <= n.finished_at + interval '1 second')
      select kind, sum(seconds) as seconds from (
        select kind, extract(epoch from at - lag(at) over (order by seq)) as seconds from told) x
      where seconds is not null group by 1 order by 1"""  # noqa: S608 - as above
    return {row["kind"]: float(row["seconds"]) for row in reports.mappings(query, **scope.values)}
