"""The trading floor: books, market makers, matching and settlement. Pure: time comes in, prices come in as points."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from trading.money import ONE, ZERO, ceil_to, derived_id, floor_to
from trading.simulator.book import Book, Resting, Side, other, within
from trading.simulator.listing import Listing
from trading.simulator.orders import Settings, SimFill, SimOrder, round16
from trading.simulator.tape import Point
from trading.simulator.wallet import FEES, MARKET, Key, Wallet

USER = "user"
_LEVELS = 8


class Floor:
    """Matches by price, then time. `changed` collects the ids of orders whose state has changed, for whoever listens."""

    def __init__(self, products: dict[str, Listing], settings: Settings) -> None:
        self.products = products
        self.settings = settings
        self.wallet = Wallet()
        self.books: dict[str, Book] = {listing.book: Book() for listing in products.values()}
        self.points: dict[str, Point] = {}
        """Per book, the point that its market makers quote around."""
        self.last: dict[str, Decimal] = {}
        """Per book, the price of the last trade."""
        self.orders: dict[str, SimOrder] = {}
        self.live: dict[str, SimOrder] = {}
        self.fills: list[SimFill] = []
        self.changed: deque[str] = deque(maxlen=10_000)
        self.ended_parents: list[SimOrder] = []
        """Orders with a bracket attached that have just ended."""
        self._entered = 0

    # The market around us

    def quote(self, point: Point, now: datetime) -> None:
        """The market makers move to a new price: through orders of ours on their way, which then fill as makers."""
        book, listing = self.books[point.product], self.products[point.product]
        self.points[point.product], self.last[point.product] = point, point.price
        if listing.auction_mode:
            return
        book.remove_owned(MARKET)
        for side, price, quantity in self._quotes(point, listing):
            self._enter_market(book, side, price, quantity, now)
        self._trigger_stops(point.product, now)

    def _quotes(self, point: Point, listing: Listing) -> list[tuple[Side, Decimal, Decimal]]:
        """Eight levels a side, a basis point apart; sizes vary by price and level, but never by chance."""
        ticks = int(point.price / listing.price_increment)
        quotes: list[tuple[Side, Decimal, Decimal]] = []
        for level in range(_LEVELS):
            away = point.price * (Decimal("0.00005") + level * Decimal("0.0001"))
            share = Decimal((ticks * 31 + level * 17) % 64 + 32) / 64
            quantity = floor_to(self.settings.depth_notional * share / point.price, listing.base_increment)
            bid = floor_to(point.price - away, listing.price_increment)
            quotes.append(("SELL", ceil_to(point.price + away, listing.price_increment), quantity))
            if bid > 0:
                quotes.append(("BUY", bid, quantity))
        return [quote for quote in quotes if quote[2] > 0]

    def _enter_market(self, book: Book, side: Side, price: Decimal, quantity: Decimal, now: datetime) -> None:
        while quantity > 0 and (met := book.first(other(side))) is not None and within(side, met.price, price):
            if met.owner == MARKET:
                break
            part = min(quantity, met.left)
            book.reduce(met, part)
            quantity -= part
            self._fill(self.orders[met.id], part, met.price, "MAKER", now)
        if quantity > 0:
            self._rest(book, MARKET, MARKET, side, price, quantity)

    def _rest(self, book: Book, id_: str, owner: str, side: Side, price: Decimal, quantity: Decimal) -> None:
        self._entered += 1
        book.add(Resting(f"{id_}-{self._entered}" if owner == MARKET else id_, owner, side, price, quantity))

    def _trigger_stops(self, book_id: str, now: datetime) -> None:
        """Stops wait for the last trade. What a stop trades may trigger the next one."""
        waiting = True
        while waiting:
            price = self.last[book_id]
            reached = [order for order in self.live.values() if self._reached(order, book_id, price)]
            for order in reached:
                self._trigger(order, now)
            waiting = bool(reached)

    def _reached(self, order: SimOrder, book_id: str, price: Decimal) -> bool:
        terms = order.terms
        if not order.stop_waits or order.status == "PENDING" or self.products[order.product].book != book_id:
            return False
        assert terms.stop_price is not None
        return price >= terms.stop_price if terms.stop_up else price <= terms.stop_price

    def _trigger(self, order: SimOrder, now: datetime) -> None:
        """A stop-limit enters as a limit order; a bracket leaves its limit and trades at the market, as far as it protects."""
        order.triggered = True
        self._touch(order, now)
        if order.terms.type == "BRACKET":
            self.books[self.products[order.product].book].remove(order.order_id)
            self.take(order, self._bound(order, None), now)
            self.end(order, "CANCELLED", now)
        else:
            self.enter(order, now)

    # Orders

    def enter(self, order: SimOrder, now: datetime) -> None:
        """Takes what it may and then rests, or ends. Its hold stands already."""
        listing, terms = self.products[order.product], order.terms
        book = self.books[listing.book]
        order.status = "OPEN"
        self._touch(order, now)
        if order.stop_waits and terms.type == "STOP_LIMIT":
            return
        if listing.auction_mode:
            self._rest_of(order, book)
            return
        bound = self._bound(order, terms.limit_price)
        if terms.time_in_force == "FILL_OR_KILL" and self.offered(order, bound) < order.left:
            self.end(order, "CANCELLED", now)
            return
        self.take(order, bound, now)
        if order.done:
            return
        # What price protection has kept from trading is cancelled, else it would rest at a price that crosses.
        protected = (best := book.best(other(order.side))) is not None and within(order.side, best, terms.limit_price)
        if terms.rests and not protected:
            self._rest_of(order, book)
        else:
            self.end(order, "FILLED" if self._spent(order) else "CANCELLED", now)

    def _spent(self, order: SimOrder) -> bool:
        """A buy by quote size is filled when what is left of its size buys nothing more."""
        if order.terms.quote_size is None or not order.fill_count:
            return False
        product = self.products[order.product]
        left = order.terms.quote_size - order.filled_value - order.fees
        return left < self.last[product.book] * product.base_increment * 2

    def _rest_of(self, order: SimOrder, book: Book) -> None:
        assert order.terms.limit_price is not None
        self._rest(book, order.order_id, USER, order.side, order.terms.limit_price, order.left)

    def end(self, order: SimOrder, status: str, now: datetime) -> None:
        """Leaves the book and gives its hold back; an order that is done stays what it is."""
        if order.done:
            return
        self.books[self.products[order.product].book].remove(order.order_id)
        order.status = status
        self.live.pop(order.order_id, None)
        if order.attached:
            self.ended_parents.append(order)
        self.rehold(order)
        self._touch(order, now)

    def take(self, order: SimOrder, bound: Decimal | None, now: datetime) -> None:
        """Trades against what waits on the other side, best price first, as far as `bound`."""
        listing = self.products[order.product]
        book = self.books[listing.book]
        while not order.done and (met := book.first(other(order.side))) is not None and within(order.side, met.price, bound):
            quantity = min(self._wanted(order, met.price, listing), met.left)
            if quantity <= 0:
                break
            book.reduce(met, quantity)
            if met.owner == USER:
                self._decrement(self.orders[met.id], quantity, now)
                self._decrement(order, quantity, now)
            else:
                self._fill(order, quantity, met.price, "TAKER", now)
                self.last[listing.book] = met.price

    def _wanted(self, order: SimOrder, price: Decimal, listing: Listing) -> Decimal:
        if order.terms.quote_size is None:
            return order.left
        budget = self._net(order.terms.quote_size) - order.filled_value
        if self.settings.quote_buy_rounding == "exact16":
            return round16(budget / price)
        return floor_to(budget / price, listing.base_increment)

    def _net(self, quote_size: Decimal) -> Decimal:
        """What a buy by quote size spends on coin: the fee is inside of the size."""
        return round16(quote_size / (ONE + self.settings.taker_fee))

    def _decrement(self, order: SimOrder, quantity: Decimal, now: datetime) -> None:
        """Self-trade prevention, decrement and cancel: both orders lose the overlap, the one with nothing left is cancelled."""
        order.decremented += quantity
        order.cancel_message = "Self trade prevention"
        if order.terms.quote_size is not None or order.left <= 0:
            self.end(order, "CANCELLED", now)
        else:
            self.rehold(order)
            self._touch(order, now)

    def _fill(self, order: SimOrder, quantity: Decimal, price: Decimal, liquidity: str, now: datetime) -> None:
        rate = self.settings.maker_fee if liquidity == "MAKER" else self.settings.taker_fee
        value = quantity * price
        fee = round16(value * rate)
        if order.terms.quote_size is not None and self.settings.quote_buy_rounding == "exact16":
            value, fee = self._exact_of_quote(order, value, fee)
        self._settle(order, quantity, value, fee)
        order.filled_size += quantity
        order.filled_value += value
        order.fees += fee
        order.fill_count += 1
        order.last_fill = now
        self.fills.append(self._fill_of(order, quantity, price, value, fee, liquidity, now))
        self._touch(order, now)
        if order.terms.quote_size is None and order.left <= 0:
            self.end(order, "FILLED", now)
        else:
            self.rehold(order)

    def _exact_of_quote(self, order: SimOrder, value: Decimal, fee: Decimal) -> tuple[Decimal, Decimal]:
        """Value and fee at 16 decimals; the fill that uses the size up gets the exact rest, so that both sum to the size."""
        assert order.terms.quote_size is not None
        rest = self._net(order.terms.quote_size) - order.filled_value
        if abs(rest - value) < Decimal("1e-10"):
            return rest, order.terms.quote_size - order.filled_value - rest - order.fees
        return round16(value), fee

    def _settle(self, order: SimOrder, quantity: Decimal, value: Decimal, fee: Decimal) -> None:
        listing = self.products[order.product]
        buys = order.side == "BUY"
        giver, taker = (MARKET, order.portfolio) if buys else (order.portfolio, MARKET)
        self.wallet.move(listing.base, quantity, giver, taker)
        self.wallet.move(listing.quote, value, taker, giver)
        self.wallet.move(listing.quote, fee, order.portfolio, FEES)

    def _fill_of(
        self, order: SimOrder, quantity: Decimal, price: Decimal, value: Decimal, fee: Decimal, liquidity: str, now: datetime
    ) -> SimFill:
        number = len(self.fills) + 1
        lag = float(self.settings.fill_lag_seconds)
        return SimFill(
            number=number, trade_id=str(derived_id("sim trade", order.order_id, str(number))),
            entry_id=str(derived_id("sim entry", order.order_id, str(number))), order_id=order.order_id, product=order.product,
            portfolio=order.portfolio, side=order.side, at=now, visible_at=now + timedelta(seconds=lag), quantity=quantity,
            price=price, value=value, fee=fee, liquidity=liquidity, in_quote=order.terms.quote_size is not None,
        )  # fmt: skip

    def _touch(self, order: SimOrder, now: datetime) -> None:
        order.updated = now
        self.changed.append(order.order_id)

    # What orders need

    def _bound(self, order: SimOrder, limit: Decimal | None) -> Decimal | None:
        """The worst price to take at: price protection, or the order's own limit where that is nearer."""
        listing = self.products[order.product]
        bid, ask = self.books[listing.book].best("BUY"), self.books[listing.book].best("SELL")
        if bid is None or ask is None:
            return limit
        mid = (bid + ask) / 2
        if order.side == "BUY":
            protected = mid * (ONE + listing.protection)
            return protected if limit is None else min(protected, limit)
        protected = mid * (ONE - listing.protection)
        return protected if limit is None else max(protected, limit)

    def offered(self, order: SimOrder, bound: Decimal | None) -> Decimal:
        """How much others offer within the bound, in base."""
        waiting = self.books[self.products[order.product].book].waiting(other(order.side))
        return sum((met.left for met in waiting if met.owner == MARKET and within(order.side, met.price, bound)), ZERO)

    def cost(self, order: SimOrder) -> Decimal:
        """What a market buy by base size would spend now, rounded up by more than the fees of its fills are."""
        left, spent = order.left, ZERO
        bound = self._bound(order, None)
        for met in self.books[self.products[order.product].book].waiting("SELL"):
            part = min(left, met.left)
            if part <= 0 or not within("BUY", met.price, bound):
                break
            spent, left = spent + part * met.price, left - part
        return (spent * (ONE + self.settings.taker_fee)).quantize(Decimal("1e-14"), rounding=ROUND_CEILING)

    def needed_hold(self, order: SimOrder) -> tuple[str, Decimal]:
        """The asset and amount that a resting order sets aside: coin of a sell, limit × left × (1 + fee) of a buy."""
        listing, limit = self.products[order.product], order.terms.limit_price
        if order.side == "SELL":
            return listing.base, ZERO if order.done or limit is None else order.left
        rate = ONE + self.settings.dearest_fee
        return listing.quote, ZERO if order.done or limit is None else round16(order.left * limit * rate)

    def rehold(self, order: SimOrder) -> None:
        asset, needed = self.needed_hold(order)
        self.wallet.hold(order.portfolio, asset, needed - order.hold)
        order.hold = needed

    def holds(self) -> Mapping[Key, Decimal]:
        """The holds as the live orders say: what the wallet's holds must equal."""
        sums: dict[Key, Decimal] = {}
        for order in self.live.values():
            listing = self.products[order.product]
            key = (order.portfolio, listing.base if order.side == "SELL" else listing.quote)
            sums[key] = sums.get(key, ZERO) + order.hold
        return sums
