"""Strategies by name, and your own by `module:attribute`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ValidationError

from trading.errors import ConfigurationError
from trading.indicators import VOLATILITY_CANDLES
from trading.market import Candles, Floats
from trading.plan import StrategyChoice, worded
from trading.strategies.crossover import Crossover
from trading.strategies.donchian import Donchian
from trading.strategies.port import Strategy
from trading.strategies.rebalance import Rebalance
from trading.strategies.rsi import RsiReversion

__all__ = ["REGISTRY", "Strategy", "create", "explain", "history", "latest", "problems"]

REGISTRY: Mapping[str, Callable[..., Strategy]] = {
    "crossover": Crossover,
    "donchian": Donchian,
    "rsi": RsiReversion,
    "rebalance": Rebalance,
}


def create(choice: StrategyChoice) -> Strategy:
    """The strategy that a plan names, with its parameters checked.

    Raises ConfigurationError with every problem: an unknown name (which ones there are), a module or attribute that
    cannot be found, wrong parameters, something that is no strategy.
    """
    build = _own(choice.name) if ":" in choice.name else _registered(choice.name)
    try:
        strategy = build(**choice.parameters)
    except ValidationError as error:
        model = build if isinstance(build, type) and issubclass(build, BaseModel) else BaseModel
        found = [f"strategy.parameters.{key}: {rest}" for key, rest in worded(error, model)]
        raise ConfigurationError(found) from None
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"strategy.parameters: {choice.name} does not take them: {error}") from error
    if not isinstance(strategy, Strategy):
        raise ConfigurationError(
            f"strategy.name: {choice.name} gives a {type(strategy).__name__}, expected `lookback` and `signals`"
        )
    return strategy


def latest(strategy: Strategy, candles: Candles) -> dict[str, float]:
    """Product -> newest signal; NaN where there is none. A strategy of the user's own is held to shape and range.

    Raises ConfigurationError when the shape is wrong or a signal lies outside -1 ... 1.
    """
    signals: Floats = np.asarray(strategy.signals(candles), dtype=np.float64)
    if signals.shape not in (candles.close.shape, candles.close.shape[1:]):
        raise ConfigurationError(f"strategy: found signals of shape {signals.shape}, expected {candles.close.shape}")
    row = signals if signals.ndim == 1 else signals[-1]
    wrong = ~np.isnan(row) & ~(np.abs(row) <= 1.0)
    if wrong.any():
        column = int(wrong.argmax())
        found = f"{row[column]:g} for {candles.products[column]}"
        raise ConfigurationError(f"strategy: found signal {found}, expected -1 ... 1")
    return dict(zip(candles.products, row.tolist(), strict=True))


def before_latest(strategy: Strategy, candles: Candles) -> dict[str, float]:
    """Product -> the signal of one candle earlier, as `latest` told it then; nothing where there was no candle before."""
    rows = len(candles.starts) - 1
    return latest(strategy, candles.up_to(rows)) if rows >= 1 else {}


def explain(strategy: Strategy, candles: Candles, products: Sequence[str]) -> Mapping[str, str]:
    """Words for the newest signal of each product: the strategy's own, else its name."""
    own: Callable[[Candles, Sequence[str]], Mapping[str, str]] | None = getattr(strategy, "explain", None)
    return dict.fromkeys(products, type(strategy).__name__.lower()) if own is None else own(candles, products)


def history(strategy: Strategy) -> int:
    """Candles that one cycle fetches: what the strategy needs, and at least what the portfolio's volatility needs."""
    return max(strategy.lookback, VOLATILITY_CANDLES + 1)


def problems(strategy: Strategy, products: Sequence[str]) -> list[str]:
    """What is wrong with a strategy's parameters for these products, in its own judgement."""
    own: Callable[[Sequence[str]], list[str]] | None = getattr(strategy, "problems", None)
    return [] if own is None else own(products)


def _registered(name: str) -> Callable[..., Strategy]:
    if name not in REGISTRY:
        known = ", ".join(REGISTRY)
        raise ConfigurationError(f"strategy.name: found {name!r}, expected {known}, or module:attribute of your own")
    return REGISTRY[name]


def _own(name: str) -> Callable[..., Strategy]:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(f"strategy.name: {name}: cannot import {module_name!r}: {error}") from error
    except ValueError:
        raise ConfigurationError(f"strategy.name: found {name!r}, expected module:attribute") from None
    found = getattr(module, attribute, None)
    if not callable(found):
        what = "is no class or function" if found is not None else "does not exist"
        raise ConfigurationError(f"strategy.name: {name}: {attribute!r} {what} in module {module_name!r}")
    own: Callable[..., Strategy] = found
    return own
