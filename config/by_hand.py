"""Desks for who trades from a program of their own: the ones that the commands of a person open, anchored at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from config.anchors import anchor_after
from config.clock import wall_clock
from config.credentials import get_credentials_manager
from config.desk import open_desk
from config.live import environment
from config.plans import load_plan
from config.postgres import ledger_url
from config.settings import Settings, load
from config.snapshots import ready
from trading import hand
from trading.desk import Desk
from trading.errors import ConfigurationError
from trading.exchange.port import Balance
from trading.orders import LIVE_STATES, Mode, Order, Request
from trading.plan import Plan
from trading.settlement import settle
from trading.store.database import connect
from trading.store.roles import Role
from trading.store.standing import armed_until


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """One plan in one mode, as a person trades it."""

    plan: str | Plan
    mode: Mode
    settings: Settings

    @contextmanager
    def looking(self) -> Iterator[Desk]:
        """A desk that cannot send: without the key that trades, and without a person's login."""
        with open_desk(self.plan, mode=self.mode, settings=self.settings, trades=False) as desk:
            yield desk

    def balances(self, desk: Desk) -> dict[str, Balance]:
        """What the account holds: on paper its capital once the plan is opened, and what filled once it is settled."""
        if self.mode is Mode.PAPER:
            with hand.at_the_desk(desk):
                settle(desk)
        return desk.exchange.balances()

    @contextmanager
    def trading(self) -> Iterator[Desk]:
        """A desk of a person; what was done at it is anchored."""
        with open_desk(self.plan, mode=self.mode, settings=self.settings, by_person=True) as desk:
            yield desk
            anchor_after(desk, self.settings)

    def place(self, request: Request, reference: str | None) -> hand.HandOrder:
        """`trading.hand.place` at this desk."""
        with self.trading() as desk:
            return hand.place(desk, request, reference)

    def cancel(self, name: str, reason: str) -> Order:
        """`trading.hand.cancel` of the order with this id, ours or the exchange's. Raises ConfigurationError without one."""
        with self.trading() as desk:
            return hand.cancel(desk, _named(desk, name).id, reason)

    def order(self, name: str) -> Order:
        """The order with this id, ours or the exchange's; one that may still trade is settled first."""
        with self.looking() as desk:
            found = _named(desk, name)
            if found.state not in LIVE_STATES:
                return found
            with hand.at_the_desk(desk):
                settle(desk)
            return _named(desk, name)


def by_hand(plan: str | Plan, mode: Mode | None = None, settings: Settings | None = None) -> ByHand:
    """The plan's desks in that mode; without one: live if it is armed, else paper."""
    settings = settings or load()
    return ByHand(plan=plan, mode=mode or _chosen(plan, settings), settings=settings)


def _chosen(plan: str | Plan, settings: Settings) -> Mode:
    """Live only if every switch says live and the plan's portfolio is armed now."""
    if get_credentials_manager().is_paper_trading():
        return Mode.PAPER
    opened = plan if isinstance(plan, Plan) else load_plan(plan, environment(Mode.LIVE), settings.plans)
    url = ledger_url(settings)
    ready(url, settings)
    with connect(url, "keel library", Role.REPORT) as connection:
        until = armed_until(connection, f"{Mode.LIVE}:{opened.portfolio}")
    return Mode.LIVE if until is not None and until > wall_clock() else Mode.PAPER


def _named(desk: Desk, name: str) -> Order:
    found = desk.books.order_by_exchange_id(desk.book, name) or _by_client_id(desk, name)
    if found is None or found.intent.owner.book != desk.book:
        raise ConfigurationError(f"order {name}: found none in {desk.book}, expected the id of an order of this portfolio")
    return found


def _by_client_id(desk: Desk, name: str) -> Order | None:
    try:
        id_ = UUID(name)
    except ValueError:  # an exchange's id need not be one
        return None
    return desk.books.orders([id_]).get(id_)
