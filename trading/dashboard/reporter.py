"""Tells a Supabase project: rows by PostgREST's conventions, each by its key, so that telling it twice changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from trading.errors import ConfigurationError, KeelError
from trading.money import dec, text
from trading.store.rows import plain

Number = Decimal | int | float | str
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class NotTold(KeelError):
    """Supabase did not take a report; it may have arrived all the same, and is told again by the same key."""

    code = "not_told"


class DashboardReporter:
    """Reports to the tables of `deployments/supabase.sql`. The key is the project's service key; it is never printed.

    Raises ConfigurationError for an address that would send the key in the clear; NotTold when a report was not taken.
    """

    def __init__(self, supabase_url: str, supabase_key: str, *, timeout_seconds: float = 10.0) -> None:
        parts = urlsplit(supabase_url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise ConfigurationError(f"supabase_url: found {parts.scheme}://{parts.hostname}, expected https://")
        self._client = httpx.AsyncClient(
            base_url=f"{supabase_url.rstrip('/')}/rest/v1/",
            headers={"apikey": supabase_key, "Authorization": f"Bearer {supabase_key}"},
            timeout=timeout_seconds,
            trust_env=False,  # no proxy of the environment sees the key
        )
        self.host = parts.hostname or ""

    def __repr__(self) -> str:
        return f"DashboardReporter({self.host})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._client.aclose()

    async def tell(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Inserts the rows, or updates those whose `key` is there. All rows have the same columns; amounts go as text."""
        try:
            answer = await self._client.post(
                table,
                params={"on_conflict": "key"},
                headers={"Prefer": "resolution=merge-duplicates,return=minimal", "Content-Type": "application/json"},
                content=json.dumps([plain(row) for row in rows]),
            )
        except httpx.HTTPError as error:
            raise NotTold(f"supabase {self.host}: {table}: {type(error).__name__}: {error}") from error
        if not answer.is_success:
            raise NotTold(f"supabase {self.host}: {table}: status {answer.status_code}: {answer.text[:300]}")

    # ------------------------------------------------------------------------- for programs that report by themselves

    async def report_order_placed(
        self, *, order_id: str, symbol: str, side: str, quantity: Number, order_type: str, price: Number | None = None
    ) -> None:
        row = {"product": symbol, "side": side.lower(), "quantity": _text(quantity), "type": order_type, "price": _text(price)}
        await self.tell("reports", [_report("order_placed", order_id, row)])

    async def report_order_filled(
        self, *, order_id: str, symbol: str, side: str, quantity: Number, price: Number, fee: Number = 0
    ) -> None:
        row = {"product": symbol, "side": side.lower(), "quantity": _text(quantity), "price": _text(price), "fee": _text(fee)}
        await self.tell("reports", [_report("order_filled", order_id, row)])

    async def report_position_opened(
        self, *, position_id: str, symbol: str, side: str, quantity: Number, entry_price: Number
    ) -> None:
        row = {"product": symbol, "side": side.lower(), "quantity": _text(quantity), "entry_price": _text(entry_price)}
        await self.tell("reports", [_report("position_opened", position_id, row)])

    async def report_position_closed(
        self, *, position_id: str, symbol: str, side: str, quantity: Number, entry_price: Number, exit_price: Number, pnl: Number
    ) -> None:
        row = {"product": symbol, "side": side.lower(), "quantity": _text(quantity), "entry_price": _text(entry_price),
               "exit_price": _text(exit_price), "pnl": _text(pnl)}  # fmt: skip
        await self.tell("reports", [_report("position_closed", position_id, row)])

    async def report_pnl(self, *, at: str, realised: Number, unrealised: Number, fees: Number = 0) -> None:
        """`at` (ISO 8601, UTC) is the key: a figure of the same moment replaces the one before."""
        row = {"realised": _text(realised), "unrealised": _text(unrealised), "fees": _text(fees)}
        await self.tell("reports", [_report("pnl", at, row)])

    async def report_risk_metrics(self, *, at: str, **metrics: Number) -> None:
        """Ratios by name, such as `drawdown=0.02`; `at` is the key, as for `report_pnl`."""
        await self.tell("reports", [_report("risk_metrics", at, {name: _text(value) for name, value in metrics.items()})])

    async def report_circuit_breaker(self, *, at: str, state: str, reason: str = "") -> None:
        await self.tell("reports", [_report("circuit_breaker", at, {"state": state, "reason": reason})])


def _report(kind: str, subject: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"key": f"{kind}:{subject}", "kind": kind, "subject": subject, "body": body}


def _text(value: Number | None) -> str | None:
    return None if value is None else text(dec(value))
