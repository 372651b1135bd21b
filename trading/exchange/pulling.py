"""Cancelling by the venue's own list: what a halt does where there is no ledger to ask, and what proves it where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from trading.errors import ExchangeError
from trading.exchange.port import Exchange, ExchangeOrder, Status
from trading.orders import Side

LOOKS_MAX = 9
PAUSE_SECONDS = 2.0
"""Cancelling is asynchronous at real venues; with this many looks an end is told within 30 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What was asked to go, and what the venue still lists after it."""

    cancelled: tuple[str, ...]
    """Exchange ids that the venue listed as open first, and does not any more."""
    left: tuple[str, ...]
    problem: str = ""
    """Why the venue could not be asked, or why it refused; empty when it answered."""

    @property
    def proved(self) -> bool:
        """True if the venue was asked again and lists none of them."""
        return not self.left and not self.problem


def pull(exchange: Exchange, now: datetime, pause: Callable[[float], None], *, everything: bool = False) -> Pulled:
    """Cancels every resting purchase of the account, whoever placed it, until none is listed; with `everything` sales as well."""
    seen: dict[str, None] = {}
    left: list[str] = []
    refused: dict[str, str] = {}
    try:
        for look in range(LOOKS_MAX):
            left = [order.exchange_order_id for order in exchange.orders(now) if _goes(order, everything=everything)]
            seen |= dict.fromkeys(left)
            if not left:
                break
            if look and exchange.visibility_lag_seconds:
                pause(PAUSE_SECONDS)
            refused |= exchange.cancel(left)
    except ExchangeError as error:
        return Pulled(cancelled=tuple(id_ for id_ in seen if id_ not in left), left=tuple(left), problem=str(error))
    said = "; ".join(f"{id_}: {refused[id_]}" for id_ in left if id_ in refused)
    return Pulled(cancelled=tuple(id_ for id_ in seen if id_ not in left), left=tuple(left), problem=said)


def _goes(order: ExchangeOrder, *, everything: bool) -> bool:
    """A status that we do not know may be one of an order that rests."""
    return order.status in (Status.OPEN, Status.UNKNOWN) and (everything or order.side is Side.BUY)
