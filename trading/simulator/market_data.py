"""The endpoints for time, products and prices, the public ones and those for keys."""

from __future__ import annotations

from datetime import datetime

from trading.money import ZERO, text
from trading.simulator import shapes
from trading.simulator.calls import Call, HttpError, Route, listed, traded
from trading.simulator.listing import Listing
from trading.simulator.shapes import Body
from trading.simulator.simulation import Simulation
from trading.simulator.tape import DAY, Bar

GRANULARITIES = {
    "ONE_MINUTE": 60, "FIVE_MINUTE": 300, "FIFTEEN_MINUTE": 900, "THIRTY_MINUTE": 1800, "ONE_HOUR": 3600, "TWO_HOUR": 7200,
    "FOUR_HOUR": 14400, "SIX_HOUR": 21600, "ONE_DAY": 86400, "ONE_WEEK": 604800,
}  # fmt: skip
_MOST_CANDLES = 350


def _time(sim: Simulation, call: Call) -> Body:
    del call
    return shapes.time_body(sim.clock.signing())


def day_bar(sim: Simulation, listing: Listing, now: datetime) -> Bar | None:
    """The last 24 whole hours as one candle."""
    hours = sim.venue.tape.bars(listing.book, int(now.timestamp()) - DAY, int(now.timestamp()), 3600)
    if not hours:
        return None
    high, low = max(bar.high for bar in hours), min(bar.low for bar in hours)
    return Bar(hours[0].start, hours[0].open, high, low, hours[-1].close, sum((bar.volume for bar in hours), ZERO))


def _product_body(sim: Simulation, listing: Listing, now: datetime) -> Body:
    return shapes.product_body(listing, sim.venue.floor, day_bar(sim, listing, now))


def _products(sim: Simulation, call: Call) -> Body:
    asked, now = call.many("product_ids"), sim.now()
    found = [listing for id_, listing in sim.venue.products.items() if not asked or id_ in asked]
    offset = int(call.one("offset", "0") or 0)
    page = found[offset : offset + call.count(1000, 1000)]
    return {"products": [_product_body(sim, listing, now) for listing in page], "num_products": len(found)}


def _product(sim: Simulation, call: Call) -> Body:
    return _product_body(sim, listed(sim, call.path["product_id"]), sim.now())


def _candles(sim: Simulation, call: Call) -> Body:
    listing, now = listed(sim, call.path["product_id"]), sim.now()
    seconds = GRANULARITIES.get(call.one("granularity"))
    if seconds is None or not call.one("start").isdigit() or not call.one("end").isdigit():
        raise HttpError(400, "INVALID_ARGUMENT", "start, end (unix seconds) and granularity are required")
    start, end = int(call.one("start")), int(call.one("end"))
    if (end - start) // seconds + 1 > _MOST_CANDLES + 1 or (end - start) // seconds > _MOST_CANDLES:
        raise HttpError(400, "INVALID_ARGUMENT", "number of candles requested should be less than 350")
    bars = sim.venue.tape.bars(listing.book, start, min(end + 1, int(now.timestamp()) + 1), seconds)
    newest_first = bars[::-1][: call.count(_MOST_CANDLES, _MOST_CANDLES)]
    return {"candles": [shapes.candle_body(bar) for bar in newest_first]}


def _trades(sim: Simulation, call: Call) -> Body:
    listing, now = traded(sim, call.path["product_id"]), sim.now()
    floor = sim.venue.floor
    bid, ask = floor.books[listing.book].best("BUY"), floor.books[listing.book].best("SELL")
    trades = market_trades(sim, listing, now, call.count(100, 100))
    return {"trades": trades, "best_bid": text(bid) if bid else "", "best_ask": text(ask) if ask else ""}


def market_trades(sim: Simulation, listing: Listing, now: datetime, most: int) -> list[Body]:
    """The newest trades of the tape's last hour, newest first; the side is the maker's."""
    end = int(now.timestamp())
    points = [point for point in sim.venue.tape.points(end - 3600, end) if point.product == listing.book]
    return [
        {
            "trade_id": str(point.at), "product_id": listing.id, "price": text(point.price), "size": "0.001",
            "time": shapes.time_text(datetime.fromtimestamp(point.at, now.tzinfo)), "side": ("BUY", "SELL")[point.at // 15 % 2],
            "bid": "", "ask": "", "exchange": "coinbase",
        }
        for point in points[::-1][:most]
    ]  # fmt: skip


def _product_book(sim: Simulation, call: Call) -> Body:
    now = sim.now()
    listing = traded(sim, call.one("product_id"))
    return shapes.product_book_body(listing, sim.venue.floor, call.count(1000, 1000), now)


def _best_bid_ask(sim: Simulation, call: Call) -> Body:
    now, asked = sim.now(), call.many("product_ids")
    some = [listing for id_, listing in sim.venue.products.items() if not asked or id_ in asked]
    return {"pricebooks": [shapes.book_body(listing, sim.venue.floor, 1, now) for listing in some]}


MARKET_ROUTES = (
    Route("get_unix_time", "GET", "/time", _time, "public"),
    Route("get_public_products", "GET", "/market/products", _products, "public"),
    Route("get_public_product", "GET", "/market/products/{product_id}", _product, "public"),
    Route("get_public_candles", "GET", "/market/products/{product_id}/candles", _candles, "public"),
    Route("get_public_market_trades", "GET", "/market/products/{product_id}/ticker", _trades, "public"),
    Route("get_public_product_book", "GET", "/market/product_book", _product_book, "public"),
    Route("get_products", "GET", "/products", _products),
    Route("get_product", "GET", "/products/{product_id}", _product),
    Route("get_candles", "GET", "/products/{product_id}/candles", _candles),
    Route("get_market_trades", "GET", "/products/{product_id}/ticker", _trades),
    Route("get_product_book", "GET", "/product_book", _product_book),
    Route("get_best_bid_ask", "GET", "/best_bid_ask", _best_bid_ask),
)
