"""What everybody holds: totals and holds per portfolio and asset, and the check that nothing appears or vanishes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

from trading.errors import KeelError
from trading.money import ZERO

MARKET = "market"
FEES = "fees"
OUTSIDE = "outside"

Key = tuple[str, str]
"""(owner, asset): owner is a portfolio, the market that we trade against, the fee account, or the world outside."""


@dataclass(slots=True)
class Wallet:
    """Double entry: every move takes from one owner what it gives to another, so that each asset sums to zero."""

    totals: dict[Key, Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    holds: dict[Key, Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))

    def move(self, asset: str, amount: Decimal, giver: str, taker: str) -> None:
        self.totals[giver, asset] -= amount
        self.totals[taker, asset] += amount

    def hold(self, owner: str, asset: str, change: Decimal) -> None:
        self.holds[owner, asset] += change

    def available(self, owner: str, asset: str) -> Decimal:
        return self.totals.get((owner, asset), ZERO) - self.holds.get((owner, asset), ZERO)

    def assets(self, owner: str) -> list[str]:
        """The assets that the owner ever held, by name."""
        return sorted({asset for holder, asset in self.totals if holder == owner})

    def check(self, expected_holds: dict[Key, Decimal]) -> None:
        """Raises KeelError unless each asset sums to zero, nobody is overdrawn, and the holds are those of the open orders."""
        sums: dict[str, Decimal] = defaultdict(lambda: ZERO)
        for (_, asset), total in self.totals.items():
            sums[asset] += total
        wrong = [f"{asset} sums to {total}, expected 0" for asset, total in sums.items() if total]
        for key in self.totals.keys() | self.holds.keys():
            held = self.holds.get(key, ZERO)
            if held != expected_holds.get(key, ZERO):
                wrong.append(f"hold of {key} is {held}, its orders need {expected_holds.get(key, ZERO)}")
            if key[0] not in (MARKET, OUTSIDE) and self.totals.get(key, ZERO) < held:
                wrong.append(f"{key} has {self.totals.get(key, ZERO)} and holds {held}")
        if wrong:
            raise KeelError("the simulated venue's books are wrong: " + "; ".join(sorted(wrong)))
