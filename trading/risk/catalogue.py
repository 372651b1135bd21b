"""All checks in the order in which they are made and told, and what each of them looks at."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from trading.risk import checks, pace, prices
from trading.risk.checks import Guard, OrderCheck, ProductCheck

PRODUCT_CONTROLS: tuple[ProductCheck, ...] = (
    *checks.PRODUCT_CHECKS,
    ProductCheck("spread", Guard.ENTRY, prices.spread, "bid-ask spread, of the mid"),
    ProductCheck("candle_stale", Guard.ENTRY, prices.candle_fresh, "seconds since its last candle closed"),
    ProductCheck("price_off_mean", Guard.ENTRY, prices.near_mean, "mid against the recent mean price"),
    ProductCheck("second_source", Guard.ENTRY, prices.second_source, "mid against the second price source"),
    ProductCheck("peg", Guard.ENTRY, prices.peg, "a pair of two dollars trades near one"),
    ProductCheck("fee", Guard.ENTRY, prices.fee, "the venue's taker fee over the plan's"),
    ProductCheck("signal", Guard.ENTRY, prices.signal, "the signal that asked for it"),
    ProductCheck("signals_turned", Guard.ENTRY, prices.turned, "share of the products whose signals turned at once"),
)

ORDER_CONTROLS: tuple[OrderCheck, ...] = (
    *checks.ORDER_CHECKS,
    OrderCheck("volume_share", Guard.ENTRY, pace.volume_share, "notional against the volume of the last day"),
    OrderCheck("impact", Guard.ENTRY, pace.impact, "mean price of the order over the best ask, by the book"),
    OrderCheck("hourly_volume", Guard.ENTRY, pace.hourly_volume, "notional sent within the hour after the order"),
    OrderCheck("entries_in_slot", Guard.ENTRY, pace.entries_in_slot, "entries of the product in this slot"),
    OrderCheck("orders_in_hour", Guard.ENTRY, pace.orders_in_hour, "orders of the product within the hour"),
    OrderCheck("orders_in_day", Guard.ENTRY, pace.orders_in_day, "orders of the product today"),
    OrderCheck("live_orders", Guard.ENTRY, pace.live_orders, "orders of the product that may still trade"),
    OrderCheck("messages", Guard.ENTRY, pace.messages, "orders of the portfolio within the minute"),
    OrderCheck("repeated_entries", Guard.ENTRY, pace.repeated_entries, "entries in a row, until a person resumes the product"),
    OrderCheck("like_order", Guard.ENTRY, pace.unlike, "a buy of that size and price was sent just before"),
    OrderCheck("self_trade", Guard.ENTRY, pace.no_self_trade, "price against our own resting sale"),
    OrderCheck("order_life", Guard.ENTRY, pace.order_life, "end of the order"),
    OrderCheck("correlated", Guard.ENTRY, pace.correlated, "share of variance from moving together after the order"),
)

SAYS: Mapping[str, str] = {
    **{check.code: check.says for check in PRODUCT_CONTROLS},
    **{check.code: check.says for check in ORDER_CONTROLS},
}


class Data(StrEnum):
    """What a check looks at besides the plan."""

    REQUEST = "request"
    RULES = "rules"
    """The venue's, of the product."""
    QUOTE = "quote"
    CANDLES = "candles"
    SECOND = "second"
    LEDGER = "ledger"
    MODEL = "model"
    VENUE = "venue"
    """What the venue says of our account."""


_DATA = {
    Data.REQUEST: "product_in_plan quantity terms duplicate entries_in_slot order_life",
    Data.RULES: "product_known product_tradable order_type quantity_increment price_increment venue_size_min venue_size_max",
    Data.QUOTE: "price_known quote_stale venue_notional_min order_size_max order_size_min price_band exitable spread peg impact",
    Data.CANDLES: "product_gated price_out_of_range portfolio_volatility candle_stale price_off_mean volume_share correlated",
    Data.SECOND: "second_source",
    Data.LEDGER: "in_doubt asset_frozen equity_known holding position_size open_positions balance leverage daily_volume "
    "hourly_volume orders_in_hour orders_in_day live_orders messages repeated_entries like_order self_trade",
    Data.MODEL: "signal signals_turned",
    Data.VENUE: "fee",
}
LOOKS_AT: Mapping[str, Data] = {code: data for data, codes in _DATA.items() for code in codes.split()}
