"""An order at the simulated venue, its fills, and the venue's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from trading.errors import ConfigurationError
from trading.money import ZERO
from trading.simulator.book import Side
from trading.simulator.terms import Terms

DONE = frozenset({"FILLED", "CANCELLED", "EXPIRED", "FAILED"})
_SIXTEEN = Decimal("1e-16")


def round16(value: Decimal) -> Decimal:
    """At the venue's 16 decimals, half to even: how live replies are rounded."""
    return value.quantize(_SIXTEEN, rounding=ROUND_HALF_EVEN)


@dataclass(slots=True, kw_only=True)
class SimOrder:
    """One order and where it stands. Sizes in base, values, fees and prices in quote."""

    order_id: str
    client_order_id: str
    product: str
    portfolio: str
    side: Side
    terms: Terms
    configuration: Mapping[str, Any]
    created: datetime
    visible_at: datetime
    updated: datetime
    status: str = "PENDING"
    filled_size: Decimal = ZERO
    filled_value: Decimal = ZERO
    fees: Decimal = ZERO
    fill_count: int = 0
    last_fill: datetime | None = None
    decremented: Decimal = ZERO
    """What self-trade prevention took off its size."""
    hold: Decimal = ZERO
    triggered: bool = False
    cancel_message: str = ""
    edits: list[dict[str, str]] = field(default_factory=list)
    attached: Mapping[str, Any] | None = None
    attached_order_id: str = ""
    originating_order_id: str = ""

    @property
    def done(self) -> bool:
        return self.status in DONE

    @property
    def left(self) -> Decimal:
        """What is still to trade, in base; of an order by quote size nothing is known."""
        return (self.terms.base_size or ZERO) - self.filled_size - self.decremented

    @property
    def stop_waits(self) -> bool:
        return self.terms.stop_price is not None and not self.triggered and not self.done


@dataclass(frozen=True, slots=True, kw_only=True)
class SimFill:
    """One execution of one order: base quantity, price and fee in quote; seen by the API from `visible_at` on."""

    number: int
    trade_id: str
    entry_id: str
    order_id: str
    product: str
    portfolio: str
    side: Side
    at: datetime
    visible_at: datetime
    quantity: Decimal
    price: Decimal
    value: Decimal
    fee: Decimal
    liquidity: str
    in_quote: bool


_CHOICES = {"quote_buy_rounding": ("base_grid", "exact16"), "edit_errors": ("list", "object")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set while the venue runs. Lags in seconds of venue time."""

    maker_fee: Decimal = Decimal("0.005")
    taker_fee: Decimal = Decimal("0.009")
    hidden_seconds: Decimal = ZERO
    """How long a new order is not to be found (404)."""
    fill_lag_seconds: Decimal = ZERO
    balance_lag_seconds: Decimal = ZERO
    cancel_lag_seconds: Decimal = ZERO
    depth_notional: Decimal = Decimal(25000)
    """About what each of the market's eight levels a side offers, in quote."""
    quote_buy_rounding: str = "base_grid"
    """`base_grid`: a buy by quote size gets base on the grid; `exact16`: base at 16 decimals, as before 2025."""
    edit_errors: str = "list"
    """`list` as documented; `object` as recorded, which the SDK's typed `edit_order` cannot read."""
    brackets: bool = True

    @property
    def dearest_fee(self) -> Decimal:
        return max(self.maker_fee, self.taker_fee)

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """With other values; raises ConfigurationError for a name or value that is none."""
        types = {field.name: field.type for field in fields(self)}
        wrong = [f"setting {name}: expected one of {', '.join(types)}" for name in changes if name not in types]
        for name, allowed in _CHOICES.items():
            if changes.get(name, allowed[0]) not in allowed:
                wrong.append(f"setting {name}: found {changes[name]!r}, expected one of {', '.join(allowed)}")
        if wrong:
            raise ConfigurationError(wrong)
        read = {name: Decimal(str(value)) if types[name] == "Decimal" else value for name, value in changes.items()}
        return replace(self, **read)  # type: ignore[arg-type]  # each by its field's type
