"""Gains by lot: what each part of a lot cost, what it brought when it was given up, and how long it was held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from trading.money import ZERO, ledger_round


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """A part of one lot that a sale gave up. Quantity in base, amounts in `asset`, the quote; plus is a gain.

    `fees` is this part's share of the sale's own fee, as the ledger booked it. A purchase's fee is not in its lots' cost: it
    was an expense when it was paid.
    """

    book: str
    plan: str
    product: str
    source: str
    """The venue's entry of the sale."""
    lot: str
    acquired: datetime
    """Of a pool (average cost): when its oldest part was bought."""
    disposed: datetime
    quantity: Decimal
    proceeds: Decimal
    cost: Decimal
    fees: Decimal
    basis_known: bool
    """False where the cost is a fair value, because nobody told what was paid."""

    @property
    def asset(self) -> str:
        return self.product.split("-", 1)[1]

    @property
    def gain(self) -> Decimal:
        """Before fees: what the ledger posts as realised."""
        return self.proceeds - self.cost

    @property
    def net(self) -> Decimal:
        return self.gain - self.fees

    @property
    def held_days(self) -> int:
        """Whole days between purchase and sale; negative for a late fill of a purchase after its sale."""
        return (self.disposed - self.acquired).days


def with_shared_fees(parts: Sequence[Gain]) -> list[Gain]:
    """The parts with the fee of each sale shared by quantity, the last part taking the remainder.

    Each part comes with the fee of its whole sale; the parts of a sale stand together.
    """
    shared: list[Gain] = []
    for _, sale in groupby(parts, key=lambda part: (part.book, part.plan, part.source, part.product)):
        shared += _shared(list(sale))
    return shared


def _shared(sale: list[Gain]) -> list[Gain]:
    whole, fee = sum((part.quantity for part in sale), ZERO), sale[0].fees
    parts = [replace(part, fees=ledger_round(fee * part.quantity / whole)) for part in sale[:-1]]
    return [*parts, replace(sale[-1], fees=fee - sum((part.fees for part in parts), ZERO))]


@dataclass(frozen=True, slots=True, kw_only=True)
class GainSum:
    """The gains of a plan in one asset and year."""

    plan: str
    asset: str
    parts: int
    proceeds: Decimal
    cost: Decimal
    gain: Decimal
    fees: Decimal
    net: Decimal


def gain_sums(gains: Iterable[Gain]) -> list[GainSum]:
    """By plan and asset; assets are never added up."""
    groups: dict[tuple[str, str], list[Gain]] = {}
    for one in gains:
        groups.setdefault((one.plan, one.asset), []).append(one)
    names = ("proceeds", "cost", "gain", "fees", "net")
    return [
        GainSum(
            plan=plan, asset=asset, parts=len(parts), **{name: sum((getattr(one, name) for one in parts), ZERO) for name in names}
        )
        for (plan, asset), parts in sorted(groups.items())
    ]
