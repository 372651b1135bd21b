"""One decision of a slot: all that it was made on, and what it came to. A pure function of the two is its proof.

What was seen is written down as text: the candles by their hash (they are stored once and never change), the rest of the
market, the portfolio and the breaker rows as they were. From that text the same plan and code lead to the same decision.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from trading import strategies
from trading.allocation import Proposal, allocate
from trading.market import Candles, Market, Product
from trading.money import canonical, digest, parse_stamp, stamp
from trading.plan import Plan
from trading.portfolio import Portfolio
from trading.risk import Approved, Opinions, Refused, breaker, validate
from trading.risk.breaker import BreakerRow
from trading.store.journal import request_row
from trading.strategies import Strategy

DECIDING = ("allocation", "decision", "indicators", "market", "money", "orders", "plan", "portfolio", "risk", "strategies")
"""The parts of `trading` that a decision is made by: their text, with numpy's and pandas' versions, is its code version."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The breaker rows that concern the plan, and the scopes that must have one: a missing row counts as open."""

    rows: tuple[BreakerRow, ...]
    scopes: tuple[str, ...]

    @property
    def verdict(self) -> breaker.Verdict:
        return breaker.strictest(self.rows, self.scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a slot came to: signals, what we would like to trade, and how each request was judged."""

    opinions: Opinions
    proposal: Proposal
    judged: Sequence[Approved | Refused]


def opinions_of(strategy: Strategy, candles: Candles) -> Opinions:
    """The strategy's view of every product now and one candle earlier; a product without an opinion is left out."""
    now, before = strategies.latest(strategy, candles), strategies.before_latest(strategy, candles)
    return Opinions(now=_known(now), before=_known(before))


def _known(signals: Mapping[str, float]) -> dict[str, float]:
    return {product: signal for product, signal in signals.items() if not math.isnan(signal)}


def decide(
    plan: Plan, strategy: Strategy, opinions: Opinions, market: Market, portfolio: Portfolio, standing: Standing
) -> Decision:
    """Turns signals into requests and judges each, at the market's time."""
    factor = breaker.size_factor(standing.verdict, plan.breaker)
    proposal = allocate(plan, opinions.now, market, portfolio, size_factor=factor, strategy=strategy)
    return Decision(
        opinions=opinions,
        proposal=proposal,
        judged=validate(plan, proposal.requests, market, portfolio, market.at, opinions),
    )


# ------------------------------------------------------------------------------------------------ what was decided


def evaluation_body(judged: Approved | Refused) -> dict[str, Any]:
    """The request, the quote that the spread of its costs is told by, and every check with what it observed."""
    quote = judged.evaluation.lane.quote
    seen = None if quote is None else {"bid": quote.bid, "ask": quote.ask}
    return {"request": request_row(judged.request), "quote": seen, **judged.evaluation.to_dict()}


def decided_text(decision: Decision) -> str:
    """Signals, weights wanted and everything that was cut, as canonical text; floats by their shortest exact spelling."""
    opinions, proposal = decision.opinions, decision.proposal
    return canonical(
        {
            "signals": _spelled(opinions.now),
            "before": None if opinions.before is None else _spelled(opinions.before),
            "targets": dict(proposal.targets),
            "clips": [clip._asdict() for clip in proposal.clips],
            "requests": len(proposal.requests),
        }
    )


def _spelled(signals: Mapping[str, float]) -> dict[str, str]:
    return {product: repr(float(signal)) for product, signal in signals.items()}


# ------------------------------------------------------------------------------------------------- what was seen


@cache
def _market_parts() -> dict[str, TypeAdapter[Any]]:
    """Each field of the market but its candles and the venue's rules, which are stored by their hashes."""
    hints = get_type_hints(Market)
    return {name: TypeAdapter(hint) for name, hint in hints.items() if name not in ("candles", "products")}


_PORTFOLIO, _BREAKERS = TypeAdapter(Portfolio), TypeAdapter(Standing)
_RULES = TypeAdapter(dict[str, Product])


def rules_text(market: Market) -> str:
    """The venue's rules for the products, as canonical text: the same from slot to slot, so it is stored by its hash."""
    return canonical(_RULES.dump_python(dict(market.products), mode="json"))


def seen_text(market: Market, portfolio: Portfolio, standing: Standing, rules_sha256: str) -> str:
    """Everything that a decision was made on but the plan, as JSON; the candles by hash, grid and products."""
    candles = market.candles
    grid = {"sha256": candles.digest(), "interval": candles.interval, "products": candles.products,
            "end": stamp(candles.closes_at), "length": len(candles.starts)}  # fmt: skip
    parts = {name: part.dump_python(getattr(market, name), mode="json") for name, part in _market_parts().items()}
    return canonical(
        {
            "candles": grid,
            "rules": rules_sha256,
            "market": parts,
            "portfolio": _PORTFOLIO.dump_python(portfolio, mode="json"),
            "standing": _BREAKERS.dump_python(standing, mode="json"),
        }
    )


class Grid(NamedTuple):
    """Which candles were seen."""

    sha256: str
    interval: str
    products: tuple[str, ...]
    end: datetime
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen, read back; the market still without its candles and rules."""

    grid: Grid
    rules_sha256: str
    market: Mapping[str, Any]
    portfolio: Portfolio
    standing: Standing

    def market_with(self, candles: Candles, rules: str) -> Market:
        return Market(**self.market, candles=candles, products=_RULES.validate_json(rules))


def read_seen(text: str) -> Seen:
    """Raises pydantic's ValidationError for a text that this version's code cannot read."""
    told = json.loads(text)
    grid, market = told["candles"], told["market"]
    return Seen(
        grid=Grid(grid["sha256"], grid["interval"], tuple(grid["products"]), parse_stamp(grid["end"]), grid["length"]),
        rules_sha256=told["rules"],
        market={name: part.validate_python(market[name]) for name, part in _market_parts().items() if name in market},
        portfolio=_PORTFOLIO.validate_python(told["portfolio"]),
        standing=_BREAKERS.validate_python(told["standing"]),
    )


# ----------------------------------------------------------------------------------------------- by which code


def code_sha256(strategy: Strategy) -> str:
    """Names the code that decides: the text of `DECIDING` and of the strategy's module, and numpy's and pandas' versions."""
    own = sys.modules[type(strategy).__module__].__file__
    return digest(f"{_code_sha256()}|{_text_sha256(own) if own else ''}")


@lru_cache(maxsize=1)
def _code_sha256() -> str:
    root = files("trading")
    texts = [digest(path.read_text(encoding="utf-8")) for name in DECIDING for path in _sources(root, name)]
    return digest("|".join((*texts, np.__version__, pd.__version__)))


def _sources(root: Traversable, name: str) -> Iterable[Traversable]:
    folder = root / name
    if not folder.is_dir():
        return [root / f"{name}.py"]
    return sorted((path for path in folder.iterdir() if path.name.endswith(".py")), key=lambda path: path.name)


@lru_cache(maxsize=16)
def _text_sha256(file: str) -> str:
    return digest(Path(file).read_text(encoding="utf-8"))
