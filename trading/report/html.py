"""The report as one HTML file that needs nothing else: tables, and charts with the plotting library inside the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from trading.money import ZERO, stamp, text
from trading.report.figures import Figures, ProductResult
from trading.report.markdown import STATISTICS, origin, sections, shown, signed
from trading.summary import SYNTHETIC_WARNING, money

GAIN, LOSS, LINE, SOFT = "#1a8f5c", "#c8453b", "#3563d4", "#8a94a6"
"""Chart colours that read on light and on dark ground."""


BARS_MAX = 30
"""Products in a chart; the table has all of them."""


def to_html(figures: Figures) -> str:
    """The whole page. Charts of what is not there yet are left out, and the page says so."""
    now = figures.now
    drawn = charts(figures)
    body = [
        f'<p class="warn">{escape(SYNTHETIC_WARNING)}</p>' if figures.is_synthetic else "",
        f"<header><h1>{escape(now.plan)}</h1><p>{escape(origin(figures))}</p></header>",
        _cards(figures),
        *(f"<section><h2>{escape(title)}</h2>{chart}</section>" for title, chart in _drawn(drawn)),
        "" if drawn else "<section><p>No marks yet: charts appear after the first traded slot.</p></section>",
        _statistics(figures),
        *(_section(title, head, rows) for title, head, rows in sections(figures) if title not in ("Result", "Statistics")),
    ]
    page = (files("trading.report") / "page.html").read_text(encoding="utf-8")
    title = f"{now.plan} · {stamp(figures.until)[:10]}"
    return page.replace("{{title}}", escape(title)).replace("{{body}}", "\n".join(filter(None, body)))


def _cards(figures: Figures) -> str:
    now = figures.now
    cards = [
        ("Equity", money(None if now.equity is None else text(now.equity)), now.asset, ""),
        ("Total result", signed(figures.total), f"of {money(text(now.capital))} capital", _tone(figures.total)),
        ("Realised", signed(now.realised), "before fees", _tone(now.realised)),
        ("Unrealised", signed(now.unrealised), "at the last close", _tone(now.unrealised)),
        ("Fees", money(text(now.fees)), f"{len(figures.fills)} fills in the period", ""),
        ("Max drawdown", shown(figures.statistics.get("max_drawdown"), "percent"), f"in {figures.days} days", ""),
    ]
    return f'<div class="cards">{"".join(_card(*card) for card in cards)}</div>'


def _card(title: str, value: str, note: str, tone: str) -> str:
    return (
        f'<div class="card"><span>{escape(title)}</span><strong class="{tone}">{escape(value)}</strong>'
        f"<small>{escape(note)}</small></div>"
    )


def _tone(value: Any) -> str:
    """`gain`, `loss` or nothing: zero and unknown have no colour."""
    return "" if value is None or value == 0 else ("gain" if value > 0 else "loss")


def _statistics(figures: Figures) -> str:
    rows = "".join(
        f"<div><dt>{escape(title)}</dt><dd>{escape(shown(figures.statistics.get(key), unit))}</dd><p>{escape(said)}</p></div>"
        for key, title, unit, said in STATISTICS
    )
    return f"<section><h2>Statistics</h2><dl>{rows}</dl></section>"


def _section(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["<tr>" + "".join(f"<td{_kind(cell)}>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return f'<section><h2>{escape(title)}</h2><p class="none">None.</p></section>'
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    table = f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<section><h2>{escape(title)}</h2><div class="wide">{table}</div></section>'


def _kind(cell: str) -> str:
    number = cell.replace(",", "").lstrip("+-").replace(".", "", 1).isdigit()
    if not number:
        return ""
    tone = "" if cell[0] not in "+-" or not cell.strip("+-0.,") else (" gain" if cell[0] == "+" else " loss")
    return f' class="number{tone}"'


# ---------------------------------------------------------------------------------------------------------- charts


def charts(figures: Figures) -> list[tuple[str, Any]]:
    """(title, plotly figure) of what there is to draw."""
    drawn = [("Equity and drawdown", _equity(figures)), ("Exposure", _exposure(figures))] if figures.curve else []
    return [*drawn, ("Result by product", _products(figures))] if figures.products else drawn


def _drawn(drawn: list[tuple[str, Any]]) -> Iterable[tuple[str, str]]:
    """Each chart as HTML; the library is written into the page once, with the first."""
    settings = {"displayModeBar": False, "responsive": True, "scrollZoom": False}
    for place, (title, figure) in enumerate(drawn):
        inline = True if place == 0 else False  # noqa: SIM210 - plotly's own switch: True is "write the library here"
        yield title, figure.to_html(full_html=False, include_plotlyjs=inline, config=settings, div_id=f"chart-{place}")


def _equity(figures: Figures) -> Any:
    from plotly.graph_objects import Figure, Scatter  # noqa: PLC0415 - half a second that only a report needs
    from plotly.subplots import make_subplots  # noqa: PLC0415

    times = [point.at for point in figures.curve]
    equity = [float(point.equity) for point in figures.curve]
    peaks: list[float] = []
    for value in equity:
        peaks.append(max(value, peaks[-1] if peaks else value))
    falls = [100 * (value / peak - 1) if peak else 0.0 for value, peak in zip(equity, peaks, strict=True)]
    drawn: Figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.06)
    asset = figures.now.asset
    drawn.add_trace(Scatter(x=times, y=equity, name=f"Equity, {asset}", line={"color": LINE, "width": 2}), row=1, col=1)
    drawn.add_hline(y=float(figures.now.capital), line={"color": SOFT, "dash": "dot", "width": 1}, row=1, col=1)
    drawn.add_trace(Scatter(x=times, y=falls, name="Drawdown, %", fill="tozeroy", line={"color": LOSS, "width": 1}), row=2, col=1)
    drawn.update_yaxes(title_text=asset, row=1, col=1)
    drawn.update_yaxes(title_text="%", row=2, col=1)
    return _styled(drawn, 380)


def _exposure(figures: Figures) -> Any:
    from plotly.graph_objects import Figure, Scatter  # noqa: PLC0415

    shares = [100 * float(1 - point.cash / point.equity) if point.equity else 0.0 for point in figures.curve]
    times = [point.at for point in figures.curve]
    drawn = Figure(
        Scatter(x=times, y=shares, fill="tozeroy", line={"color": LINE, "width": 1.5, "shape": "hv"}, name="Invested, %")
    )
    drawn.update_yaxes(title_text="% of equity", rangemode="tozero")
    return _styled(drawn, 240)


def _products(figures: Figures) -> Any:
    from plotly.graph_objects import Bar, Figure  # noqa: PLC0415

    drawn_ones = _largest(figures.products)
    names = [row.product for row in drawn_ones]
    parts = (
        ("Realised", LINE, [float(row.realised) for row in drawn_ones]),
        ("Unrealised", GAIN, [float(row.unrealised or ZERO) for row in drawn_ones]),
        ("Fees", LOSS, [-float(row.fees) for row in drawn_ones]),
    )
    drawn = Figure(
        [Bar(y=names, x=values, name=title, marker={"color": colour}, orientation="h") for title, colour, values in parts]
    )
    drawn.update_layout(barmode="group", bargap=0.35)
    drawn.update_xaxes(title_text=figures.now.asset)
    drawn.update_yaxes(autorange="reversed")  # the first product on top, as in the table
    return _styled(drawn, 160 + 50 * len(names))


def _largest(products: Sequence[ProductResult]) -> list[ProductResult]:
    """The products that won or lost most, in the order of the table: beyond them bars are too many to read."""
    by_size = sorted(products, key=lambda row: -abs(row.net or ZERO))
    kept = {row.product for row in by_size[:BARS_MAX]}
    return [row for row in products if row.product in kept]


def _styled(drawn: Any, height: int) -> Any:
    """Quiet: no frame, thin grid, legend above, fingers scroll the page instead of zooming."""
    grid = {
        "gridcolor": "rgba(138,148,166,.22)",
        "zerolinecolor": "rgba(138,148,166,.45)",
        "fixedrange": True,
        "automargin": True,
    }
    drawn.update_xaxes(**grid)
    drawn.update_yaxes(**grid)
    return drawn.update_layout(
        template="none", height=height, margin={"l": 8, "r": 8, "t": 30, "b": 8}, hovermode="x unified", dragmode=False,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": SOFT},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, showlegend=True,
    )  # fmt: skip
