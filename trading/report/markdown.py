"""The report as Markdown: what the Prefect UI shows. The same rows feed the HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from trading.costs import PARTS, Costs
from trading.money import stamp, text
from trading.report.figures import Figures
from trading.summary import SYNTHETIC_WARNING, money

Row = tuple[str, ...]

STATISTICS: tuple[tuple[str, str, str, str], ...] = (
    ("total_return", "Return", "percent", "equity at the end ÷ equity at the start − 1"),
    ("sharpe", "Sharpe", "ratio", "mean ÷ deviation of daily returns, × √365, risk-free rate 0"),
    ("sortino", "Sortino", "ratio", "as Sharpe, over the deviation of losses alone"),
    ("volatility", "Volatility", "percent", "deviation of daily returns × √365"),
    ("max_drawdown", "Max drawdown", "percent", "largest fall of equity below its peak so far"),
    ("value_at_risk", "Value at risk", "percent", "5 % of the days lost more than this (historical)"),
    ("expected_shortfall", "Expected shortfall", "percent", "mean loss of those days"),
    ("win_rate", "Win rate", "percent", "sales that brought more than they had cost, after the fee of the sale"),
    ("profit_factor", "Profit factor", "ratio", "sum of wins ÷ sum of losses"),
    ("success_rate", "Order success", "percent", "orders that are done, without the rejected, abandoned and absent ones"),
    ("slippage_mean", "Slippage, mean", "basis", "fill price against the mid at the decision; plus is worse for us"),
    ("slippage_worst", "Slippage, worst", "basis", "the worst single fill"),
    ("latency_median", "Latency, median", "seconds", "from the staged decision to the fill in the books, wall time"),
    ("latency_p95", "Latency, 95 %", "seconds", "19 of 20 fills were faster"),
)
"""Key, title, unit, definition: the order in which they are shown."""


def headline(figures: Figures) -> str:
    """One line: `default: equity 1,003.20 USD, +3.20 since the opening (30 days to 2026-11-24T10:00:00Z)`."""
    now = figures.now
    return (
        f"{now.plan}: equity {money(_text(now.equity))} {now.asset}, {signed(figures.total)} since the opening "
        f"({figures.days} days to {stamp(figures.until)})"
    )


def to_markdown(figures: Figures, links: Sequence[tuple[str, str]] = ()) -> str:
    """The whole report as one page; `links` are (title, address)."""
    lines = [f"# {headline(figures)}", ""]
    if figures.is_synthetic:
        lines += [f"> **{SYNTHETIC_WARNING}**", ""]
    lines += [origin(figures), ""]
    lines += [f"[{title}]({address})  " for title, address in links]
    for title, head, rows in sections(figures):
        lines += ["", f"## {title}", "", *(_table(head, rows) if rows else ["None."])]
    return "\n".join([*lines, ""])


def origin(figures: Figures) -> str:
    """Which books and prices these figures come from."""
    now = figures.now
    return (
        f"Portfolio {now.book}, prices from {now.source}, {stamp(figures.since)} to {stamp(figures.until)} (market time), "
        f"written {stamp(figures.written_at)}."
    )


def sections(figures: Figures) -> list[tuple[str, Row, list[Row]]]:
    """(title, head, rows) of every table, in reading order; an empty one has no rows."""
    return [
        ("Result", ("figure", "amount"), results(figures)),
        ("Statistics", ("figure", "value", "what it is"), statistics(figures)),
        ("By product", ("product", "realised", "unrealised", "fees", "net", "fills"), [
            (row.product, signed(row.realised), signed(row.unrealised), money(text(row.fees)), signed(row.net), str(row.fills))
            for row in figures.products
        ]),
        ("Positions", ("product", "quantity", "cost", "price", "value", "unrealised"), [
            (row.product, text(row.quantity), money(text(row.cost)), _text(row.price) or "unknown", money(_text(row.value)),
             signed(row.unrealised)) for row in figures.positions
        ]),
        ("Costs", ("product", "orders", *PARTS, "shortfall", "of notional"), costs(figures)),
        ("Orders", ("state", "orders"), [(state, str(count)) for state, count in figures.outcomes.items()]),
        ("Breaker", ("at", "scope", "move", "reason", "by"), [
            (stamp(event.at), event.scope, f"{event.from_state} → {event.to_state}{f' ({event.level})' if event.level else ''}",
             event.reason, event.actor) for event in figures.breaker_events
        ]),
        ("Open breaks", ("class", "severity", "subject", "ours", "theirs"), [
            (row.class_, str(row.severity), row.subject, row.ours, row.theirs) for row in figures.breaks
        ]),
    ]  # fmt: skip


def costs(figures: Figures) -> list[Row]:
    """What trading cost by product, in quote and in basis points of what was decided; plus is worse for us."""
    return [
        (one.group, f"{one.orders}{f' ({one.unknown} not known yet)' if one.unknown else ''}",
         *(signed(getattr(one.costs, part)) for part in (*PARTS, "shortfall")), _basis_points(one.costs))
        for one in figures.costs
    ]  # fmt: skip


def _basis_points(found: Costs) -> str:
    value = found.basis_points()
    return "–" if value is None else f"{value:+.1f} bp"


def results(figures: Figures) -> list[Row]:
    """The money since the plan was opened, in the cash asset."""
    now = figures.now
    return [
        ("Capital", money(text(now.capital))),
        ("Equity", money(_text(now.equity))),
        ("Cash", money(text(now.cash))),
        ("Total result", signed(figures.total)),
        ("Realised", signed(now.realised)),
        ("Unrealised", signed(now.unrealised)),
        ("Fees", money(text(now.fees))),
    ]


def statistics(figures: Figures) -> list[Row]:
    """Every statistic of the period; one that cannot be known is a dash, never a zero."""
    return [(title, shown(figures.statistics.get(key), unit), said) for key, title, unit, said in STATISTICS]


def shown(value: float | None, unit: str) -> str:
    """A statistic for people. A basis point is 0.01 %."""
    if value is None or value != value:  # noqa: PLR0124 - not a number: too little to say
        return "–"
    spelled = {"percent": f"{100 * value:.2f} %", "basis": f"{10_000 * value:.1f} bp", "seconds": f"{value:.2f} s"}
    return spelled.get(unit, f"{value:.2f}")


def signed(value: Decimal | None) -> str:
    """An amount with its sign, two decimals: a result."""
    return "unknown" if value is None else f"{value:+,.2f}"


def _text(value: Decimal | None) -> str | None:
    return None if value is None else text(value)


def _table(head: Row, rows: Iterable[Row]) -> list[str]:
    body = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body]
