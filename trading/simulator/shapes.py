"""How the venue spells things: the bodies of its replies. Numbers are strings, an empty string is absent."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from trading.money import ONE, ZERO, derived_id, text
from trading.simulator.floor import Floor
from trading.simulator.listing import FLAGS, Listing
from trading.simulator.orders import SimFill, SimOrder, round16
from trading.simulator.tape import Bar
from trading.simulator.venue import Venue

USER_ID = "22222222-2222-5222-8222-222222222222"
_NAMES = {"BTC": "Bitcoin", "ETH": "Ethereum", "USD": "US Dollar", "USDC": "USDC"}
Body = dict[str, Any]


def time_text(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def money(value: Decimal, currency: str) -> Body:
    return {"value": text(value), "currency": currency}


def time_body(at: datetime) -> Body:
    seconds = at.timestamp()
    return {
        "iso": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "epochSeconds": str(int(seconds)),
        "epochMillis": str(int(seconds * 1000)),
    }


def product_body(listing: Listing, floor: Floor, day: Bar | None) -> Body:
    """`day` is the candle of the last 24 hours."""
    price = floor.last.get(listing.book)
    bid, ask = floor.books[listing.book].best("BUY"), floor.books[listing.book].best("SELL")
    open_ = day.open if day else price
    moved = (price / open_ - ONE) * 100 if price and open_ else ZERO
    volume = day.volume if day else ZERO
    aliased = listing.book != listing.id
    return {
        "product_id": listing.id, "price": text(price) if price else "", "price_percentage_change_24h": text(round16(moved)),
        "volume_24h": text(volume), "volume_percentage_change_24h": "0", "base_increment": text(listing.base_increment),
        "quote_increment": text(listing.quote_increment), "quote_min_size": text(listing.quote_min_size),
        "quote_max_size": text(listing.quote_max_size), "base_min_size": text(listing.base_min_size),
        "base_max_size": text(listing.base_max_size), "base_name": _NAMES.get(listing.base, listing.base),
        "quote_name": _NAMES.get(listing.quote, listing.quote), "watched": False, "new": False,
        "status": "delisted" if listing.is_disabled else "online", **{flag: getattr(listing, flag) for flag in FLAGS},
        "product_type": "SPOT", "quote_currency_id": listing.quote, "base_currency_id": listing.base,
        "fcm_trading_session_details": None, "mid_market_price": text((bid + ask) / 2) if bid and ask else "",
        "alias": listing.book if aliased else "", "alias_to": [] if aliased else [f"{listing.base}-USDC"],
        "base_display_symbol": listing.base, "quote_display_symbol": listing.quote,
        "price_increment": text(listing.price_increment), "display_name": listing.id, "product_venue": "CBE",
        "approximate_quote_24h_volume": text((volume * price).quantize(Decimal("0.01"))) if price else "0",
        "new_at": "2023-01-01T00:00:00Z", "market_cap": "", "base_cbrn": "", "quote_cbrn": "", "product_cbrn": "",
        "icon_color": "", "icon_url": "", "display_name_overwrite": "", "is_alpha_testing": False, "about_description": "",
        "best_bid_price": text(bid) if bid else "", "best_ask_price": text(ask) if ask else "",
    }  # fmt: skip


def candle_body(bar: Bar) -> dict[str, str]:
    names = ("low", "high", "open", "close", "volume")
    return {"start": str(bar.start)} | {name: text(getattr(bar, name)) for name in names}


def levels_body(floor: Floor, book: str, side: Any, most: int) -> list[dict[str, str]]:
    return [{"price": text(price), "size": text(size)} for price, size in floor.books[book].levels(side, most)]


def book_body(listing: Listing, floor: Floor, most: int, now: datetime) -> Body:
    bids, asks = (levels_body(floor, listing.book, side, most) for side in ("BUY", "SELL"))
    return {"product_id": listing.id, "bids": bids, "asks": asks, "time": time_text(now)}


def product_book_body(listing: Listing, floor: Floor, most: int, now: datetime) -> Body:
    bid, ask = floor.books[listing.book].best("BUY"), floor.books[listing.book].best("SELL")
    mid = (bid + ask) / 2 if bid and ask else ZERO
    spread = ask - bid if bid and ask else ZERO
    return {
        "pricebook": book_body(listing, floor, most, now), "last": text(floor.last[listing.book]), "mid_market": text(mid),
        "spread_bps": text((spread / mid * 10000).quantize(Decimal("1e-12"))) if mid else "0", "spread_absolute": text(spread),
    }  # fmt: skip


def account_id(portfolio: str, asset: str) -> str:
    return str(derived_id("sim account", portfolio, asset))


def account_body(portfolio: str, asset: str, total: Decimal, hold: Decimal, now: datetime) -> Body:
    return {
        "uuid": account_id(portfolio, asset), "name": f"{asset} Wallet", "currency": asset,
        "available_balance": money(total - hold, asset), "default": True, "active": True,
        "created_at": "2023-01-01T00:00:00Z", "updated_at": time_text(now), "deleted_at": None,
        "type": "ACCOUNT_TYPE_FIAT" if asset in ("USD", "EUR", "GBP") else "ACCOUNT_TYPE_CRYPTO", "ready": True,
        "hold": money(hold, asset), "retail_portfolio_id": portfolio, "platform": "ACCOUNT_PLATFORM_CONSUMER",
    }  # fmt: skip


def order_body(order: SimOrder) -> Body:
    terms, sign = order.terms, 1 if order.side == "BUY" else -1
    whole = terms.quote_size or terms.base_size or ONE
    traded = order.filled_value + order.fees if terms.quote_size else order.filled_size
    done_part = Decimal(100) if order.status == "FILLED" else (traded / whole * 100).quantize(Decimal("0.01"))
    average = round16(order.filled_value / order.filled_size) if order.filled_size else ZERO
    stop = "STOP_TRIGGERED" if order.triggered else "STOP_PENDING"
    return {
        "order_id": order.order_id, "product_id": order.product, "user_id": USER_ID,
        "order_configuration": order.configuration, "side": order.side, "client_order_id": order.client_order_id,
        "status": order.status, "time_in_force": terms.time_in_force, "created_time": time_text(order.created),
        "completion_percentage": text(done_part), "filled_size": text(order.filled_size),
        "average_filled_price": text(average), "fee": "", "number_of_fills": str(order.fill_count),
        "filled_value": text(order.filled_value), "pending_cancel": order.status == "CANCEL_QUEUED",
        "size_in_quote": terms.quote_size is not None, "total_fees": text(order.fees),
        "size_inclusive_of_fees": terms.quote_size is not None,
        "total_value_after_fees": text(order.filled_value + sign * order.fees),
        "trigger_status": stop if terms.stop_price is not None else "INVALID_ORDER_TYPE", "order_type": terms.type,
        "reject_reason": "REJECT_REASON_UNSPECIFIED", "settled": order.status == "FILLED", "product_type": "SPOT",
        "reject_message": "", "cancel_message": order.cancel_message, "order_placement_source": "RETAIL_ADVANCED",
        "outstanding_hold_amount": text(order.hold), "is_liquidation": False,
        "last_fill_time": time_text(order.last_fill) if order.last_fill else None, "edit_history": order.edits,
        "leverage": "", "margin_type": "UNKNOWN_MARGIN_TYPE", "retail_portfolio_id": order.portfolio,
        "originating_order_id": order.originating_order_id, "attached_order_id": order.attached_order_id,
        "attached_order_configuration": order.attached, "current_pending_replace": None, "workable_size": "",
        "workable_size_completion_pct": "", "commission_detail_total": _commission(order.fees),
        "last_update_time": time_text(order.updated),
    }  # fmt: skip


def _commission(fee: Decimal) -> Body:
    parts = ("gst", "withholding", "venue", "regulatory", "clearing")
    total = text(fee)
    return {"total_commission": total, "client_commission": total} | {f"{part}_commission": "0" for part in parts}


def fill_body(fill: SimFill) -> Body:
    """An order by quote size tells its fills' sizes in quote: base is size ÷ price."""
    return {
        "entry_id": fill.entry_id, "trade_id": fill.trade_id, "order_id": fill.order_id, "trade_time": time_text(fill.at),
        "trade_type": "FILL", "price": text(fill.price), "size": text(fill.value if fill.in_quote else fill.quantity),
        "commission": text(fill.fee), "product_id": fill.product, "sequence_timestamp": time_text(fill.visible_at),
        "liquidity_indicator": fill.liquidity, "size_in_quote": fill.in_quote, "user_id": USER_ID, "side": fill.side,
        "retail_portfolio_id": fill.portfolio, "fillSource": "FILL_SOURCE_CLOB",
        "commission_detail_total": _commission(fill.fee),
    }  # fmt: skip


def fees_body(venue: Venue, portfolio: str) -> Body:
    traded = sum((fill.value for fill in venue.floor.fills if fill.portfolio == portfolio), ZERO)
    paid = sum((fill.fee for fill in venue.floor.fills if fill.portfolio == portfolio), ZERO)
    tier = {
        "pricing_tier": "Intro 1", "usd_from": "", "usd_to": "", "taker_fee_rate": text(venue.settings.taker_fee),
        "maker_fee_rate": text(venue.settings.maker_fee), "aop_from": "0", "aop_to": "1000000", "perps_vol_from": "",
        "perps_vol_to": "",
        "volume_types_and_range": [{"volume_types": ["VOLUME_TYPE_SPOT"], "vol_from": "0", "vol_to": "10000"}],
    }  # fmt: skip
    return {
        "total_volume": float(traded), "total_fees": float(paid), "fee_tier": tier, "margin_rate": None,
        "goods_and_services_tax": None, "advanced_trade_only_volume": float(traded), "advanced_trade_only_fees": float(paid),
        "coinbase_pro_volume": 0, "coinbase_pro_fees": 0, "total_balance": text(worth(venue, portfolio)),
        "has_promo_fee": False, "volume_breakdown": [], "has_cost_plus_commission": False,
    }  # fmt: skip


def worth(venue: Venue, portfolio: str) -> Decimal:
    """All balances in USD at the last trades, to the cent; an asset without a USD book counts nothing."""
    prices = {"USD": ONE, "USDC": ONE} | {
        listing.base: venue.floor.last[listing.book]
        for listing in venue.products.values()
        if listing.quote == "USD" and listing.book in venue.floor.last
    }
    total = sum((amount * prices.get(asset, ZERO) for asset, (amount, _) in venue.balances(portfolio).items()), ZERO)
    return total.quantize(Decimal("0.01"))


def breakdown_body(venue: Venue, portfolio: str) -> Body:
    """The numbers of `spot_positions` are JSON floats, as at the venue: for display, never for a ledger."""
    nothing = money(ZERO, "USD")
    positions = [
        {
            "asset": asset, "account_uuid": account_id(portfolio, asset), "total_balance_crypto": float(total),
            "total_balance_fiat": float(total), "available_to_trade_fiat": float(total - hold), "allocation": 0.0,
            "cost_basis": nothing, "is_cash": asset in ("USD", "USDC"), "average_entry_price": nothing,
            "account_type": "ACCOUNT_TYPE_WALLET",
        }
        for asset, (total, hold) in venue.balances(portfolio).items()
    ]  # fmt: skip
    sums = {
        "total_balance": money(worth(venue, portfolio), "USD"), "total_futures_balance": nothing,
        "total_cash_equivalent_balance": nothing, "total_crypto_balance": nothing, "futures_unrealized_pnl": nothing,
        "perp_unrealized_pnl": nothing,
    }  # fmt: skip
    return {
        "breakdown": {
            "portfolio": venue.portfolios[portfolio], "portfolio_balances": sums, "spot_positions": positions,
            "perp_positions": [], "futures_positions": [],
        }
    }  # fmt: skip
