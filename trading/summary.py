"""What a run saw, decided and did, once as data (stored with the slot) and rendered for people from that data alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from trading.absorber import describe
from trading.market import interval_seconds
from trading.money import ZERO, stamp, text
from trading.store.rows import plain
from trading.strategies import explain

if TYPE_CHECKING:
    from trading.cycle import Cycle
    from trading.desk import Desk
    from trading.orders import Request
    from trading.portfolio import Holdings

EXPLAINED_MAX = 50
"""Beyond so many products nobody reads why each is left alone; those that are traded are always explained."""
SYNTHETIC_WARNING = "SYNTHETIC PRICES: made up by a seeded generator, not a market. Results mean nothing."


def summarise(desk: Desk, cycle: Cycle, held: Holdings, equity: Decimal | None) -> dict[str, Any]:
    """JSON-able; numbers of money are strings. `outcome` is traded, skipped, repeated or ended."""
    breaker = cycle.breaker
    return {
        "plan": desk.plan.name,
        "book": desk.book,
        "mode": desk.mode.value,
        "source": desk.source.name,
        "slot": stamp(cycle.slot_at) if cycle.slot_at else None,
        "market_at": stamp(cycle.market_at),
        "outcome": _outcome(cycle),
        "reason": cycle.skip,
        "next_slot": _next_slot(desk, cycle),
        "prices": _prices(desk, cycle),
        "gated": dict(cycle.market.gated) if cycle.market else {},
        "orders": _orders(desk, cycle),
        "refused": [
            {"product": refused.request.product, "side": refused.request.side.value, "code": refused.code,
             "message": refused.message} for refused in cycle.refused
        ] + [
            {"product": held.request.product, "side": held.request.side.value,
             **dict(zip(("code", "message"), _held_back(desk, cycle, held.request), strict=True))}
            for held in cycle.held_back
        ],
        "notes": [str(clip) for clip in cycle.proposal.clips] if cycle.proposal else [],
        "fills": [describe(fill) for fill in (*cycle.settled.fills, *cycle.executed.fills)],
        "late_fills": cycle.reconciliation.late_fills if cycle.reconciliation else 0,
        "positions": [
            {"product": product, "quantity": text(position.quantity), "cost": text(position.cost),
             "value": _text(held.value(product, cycle.market.quotes) if cycle.market else None)}
            for product, position in sorted(held.positions.items())
        ],
        "equity": {"equity": _text(equity), "cash": text(held.cash), "capital": text(desk.plan.capital),
                   "realised": text(held.realised), "fees": text(held.fees),
                   "unrealised": _text(held.unrealised(cycle.market.quotes) if cycle.market else None)},
        "breaker": {"state": breaker.state.value, "scope": breaker.scope, "reason": breaker.reason} if breaker else None,
        "risk": plain(cycle.figures) if cycle.figures else None,
        "reconciliation": cycle.reconciliation.to_dict() if cycle.reconciliation else None,
        "doubts": cycle.settled.in_doubt + cycle.executed.in_doubt,
        "unsafe": [str(check) for check in desk.safety.failed],
    }  # fmt: skip


def _held_back(desk: Desk, cycle: Cycle, request: Request) -> tuple[str, str]:
    """Code and message of what was approved and not let through."""
    if reason := desk.forbids(request.side):
        return "not_safe", reason
    if cycle.exits_only:
        return "late_run", cycle.exits_only
    return "breaker_open", cycle.product_breakers[request.product].message


def _outcome(cycle: Cycle) -> str:
    if cycle.slot_at is None:
        return "ended"
    if cycle.claim is not None and not cycle.claim.ours:
        return "repeated"
    return "skipped" if cycle.skip else "traded"


def _next_slot(desk: Desk, cycle: Cycle) -> str | None:
    if cycle.slot_at is None:
        return None
    return stamp(cycle.slot_at + timedelta(seconds=interval_seconds(desk.plan.interval)))


def _prices(desk: Desk, cycle: Cycle) -> list[dict[str, Any]]:
    """Per product what was seen and what it was taken for; the strategy's words where people will read them."""
    if cycle.market is None:
        return []
    market, targets = cycle.market, cycle.proposal.targets if cycle.proposal else {}
    products = market.candles.products
    words = explain(desk.strategy, market.candles, products) if len(products) <= EXPLAINED_MAX else {}
    rows = []
    for column, product in enumerate(products):
        quote, signal, target = market.quotes.get(product), cycle.signals.get(product), targets.get(product)
        rows.append({
            "product": product, "close": repr(float(market.candles.close[-1, column])),
            "bid": text(quote.bid) if quote else None, "ask": text(quote.ask) if quote else None,
            "signal": None if signal is None else f"{signal:.2f}",
            "target": None if target is None else f"{target:.2f}", "why": words.get(product, ""),
        })  # fmt: skip
    return rows


def _orders(desk: Desk, cycle: Cycle) -> list[dict[str, Any]]:
    """Each order of this run as it stands after reconciling: read back, so that the summary says what the books say."""
    stored = desk.books.orders(cycle.executed.states) if cycle.executed.states else {}
    return [
        {"client_order_id": str(order.id), "product": order.intent.request.product,
         "side": order.intent.request.side.value, "quantity": text(order.intent.request.quantity),
         "state": order.state.value, "filled": text(order.filled), "reason": order.intent.request.reason,
         "note": order.reason if order.state.value not in ("filled", "open") else ""}
        for order in stored.values()
    ]  # fmt: skip


def _text(value: Decimal | None) -> str | None:
    return None if value is None else text(value)


def headline(summary: dict[str, Any]) -> str:
    """One line: `default@2026-11-24T10:00:00Z traded: 2 orders, 2 fills, 0 refused; equity 1003.20 USD`."""
    slot = summary["slot"] or "no slot"
    if summary["outcome"] != "traded":
        return f"{summary['plan']}@{slot} {summary['outcome']}: {summary['reason']}"
    return (
        f"{summary['plan']}@{slot} traded: {len(summary['orders'])} orders, {len(summary['fills'])} fills, "
        f"{len(summary['refused'])} refused; equity {money(summary['equity']['equity'])}"
    )


def to_markdown(summary: dict[str, Any], links: Sequence[tuple[str, str]] = ()) -> str:
    """The run as a Markdown page; `links` are (title, address)."""
    lines = [f"# {headline(summary)}", ""]
    if summary["source"] == "synthetic":
        lines += [f"> **{SYNTHETIC_WARNING}**", ""]
    lines += [
        (
            f"Mode **{summary['mode']}**, portfolio {summary['book']}, prices from {summary['source']}, "
            f"market time {summary['market_at']}. Next slot: {summary['next_slot'] or 'none'}."
        ),
        "",
    ]
    lines += [f"[{title}]({address})  " for title, address in links]
    for title, head, rows in _sections(summary):
        lines += ["", f"## {title}", ""]
        lines += _table(head, rows) if rows else ["None."]
    return "\n".join([*lines, ""])


def to_text(summary: dict[str, Any]) -> str:
    """The run for a terminal: the same sections in aligned columns."""
    lines = [headline(summary)]
    if summary["source"] == "synthetic":
        lines += ["", f"*** {SYNTHETIC_WARNING} ***"]
    for title, head, rows in _sections(summary):
        if rows:
            lines += ["", f"{title}:", *_columns(head, rows)]
    return "\n".join(lines)


Section = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


def _sections(summary: dict[str, Any]) -> list[Section]:
    equity, found = summary["equity"], summary["reconciliation"]
    breaker = summary["breaker"]
    return [
        ("What it saw", ("product", "close", "bid", "ask", "data"), [
            (row["product"], row["close"], row["bid"] or "none", row["ask"] or "none",
             summary["gated"].get(row["product"], "passed")) for row in summary["prices"]
        ]),
        ("What it wants", ("product", "signal", "share of equity", "why"), [
            (row["product"], row["signal"] or "no opinion", row["target"] or "as it is", row["why"]) for row in summary["prices"]
        ]),
        ("Orders", ("product", "side", "quantity", "state", "filled", "why"), [
            (row["product"], row["side"], row["quantity"], row["state"], row["filled"],
             " ".join(filter(None, (row["reason"], row["note"])))) for row in summary["orders"]
        ]),
        ("Refused", ("product", "side", "code", "why"), [
            (row["product"], row["side"], row["code"], row["message"]) for row in summary["refused"]
        ]),
        ("Notes", ("note",), [(note,) for note in summary["notes"]]),
        ("Fills", ("fill",), [(fill,) for fill in summary["fills"]]),
        ("Positions", ("product", "quantity", "cost", "value"), [
            (row["product"], row["quantity"], money(row["cost"]), money(row["value"])) for row in summary["positions"]
        ]),
        ("Books", ("equity", "cash", "realised", "unrealised", "fees"), [
            tuple(money(equity[name]) for name in ("equity", "cash", "realised", "unrealised", "fees"))
        ]),
        ("Safety", ("breaker", "reconciliation", "open breaks", "in doubt"), [(
            f"{breaker['state']} {breaker['reason']}".strip() if breaker else "not asked",
            "clean" if found and found["clean"] else "; ".join(found["differences"]) or "open breaks" if found else "not done",
            str(found["open_breaks"] if found else "unknown"), str(summary["doubts"]),
        )]),
    ]  # fmt: skip


def money(value: str | None) -> str:
    """An amount for people, two decimals; `unknown` is said, not guessed."""
    return "unknown" if value is None else f"{Decimal(value) + ZERO:,.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body]


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [head, *rows]
    widths = [max(len(row[place]) for row in table) for place in range(len(head))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
