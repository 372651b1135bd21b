"""The catalogue of pre-trade and post-trade controls for readers: what each is for, which checks and keys make it up.

The order and numbers are those of the catalogue that the controls were taken from (market-access rules 15c3-5 and RTS 6, FIA's
recommendations). `docs/risk.md` is made from this table.
"""

from __future__ import annotations

from typing import NamedTuple


class Control(NamedTuple):
    """One control. Codes are those of checks and breaker triggers, keys those of the plan (`limits.` of its profile)."""

    name: str
    why: str
    codes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    elsewhere: str = ""
    """Where it works when no check of a request does, or what it does besides."""


CONTROLS = (
    Control(
        "Types and increments",
        "An order that the venue cannot take, or takes for another one, is no order.",
        (
            "quantity",
            "terms",
            "quantity_increment",
            "price_increment",
            "venue_size_min",
            "venue_size_max",
            "venue_notional_min",
            "order_size_min",
            "exitable",
            "holding",
        ),
        ("orders.min_notional",),
        "What is bought must be sellable again: an entry that would leave dust is not made.",
    ),
    Control(
        "Products and their flags",
        "Only what the plan names is traded, and only while the venue trades it.",
        ("product_known", "product_tradable", "product_in_plan", "order_type"),
    ),
    Control(
        "No limit, no order",
        "A limit that is missing or no number would otherwise be no limit at all.",
        ("equity_known",),
        (),
        "A plan without a value for a key does not load; a comparison with what is no number refuses.",
    ),
    Control(
        "Order value and volume",
        "One slip of a decimal point must not cost more than one order may.",
        ("order_size_max", "volume_share"),
        ("limits.max_order_size_usd", "controls.max_volume_share"),
        "Larger exits are sliced; entries are cut to the limit before they are judged.",
    ),
    Control(
        "Price collar",
        "A stated price far from the market is a mistake, or becomes one.",
        ("price_band", "price_known"),
        ("checks.price_band", "orders.stop_collar"),
    ),
    Control(
        "Price collar over time",
        "A market far from where it just was is broken, or not one for an automaton.",
        ("price_out_of_range", "price_off_mean"),
        ("checks.range_candles", "checks.range_band", "controls.vwap_band"),
    ),
    Control(
        "Second price source",
        "One source can be wrong for hours, and says nothing about it.",
        ("second_source", "peg"),
        ("controls.second_source_required", "controls.max_second_deviation", "controls.second_age_seconds"),
        "`KEEL_SECOND_MARKET` names the other source. Without one the check says so and passes, unless the plan requires one.",
    ),
    Control(
        "Stale quote, stale candle",
        "A decision on an old price is a decision about another market.",
        ("quote_stale", "candle_stale"),
        ("checks.quote_age_seconds", "controls.candle_age_intervals", "staleness_intervals"),
    ),
    Control(
        "Data quality",
        "Gaps, jumps and impossible candles make signals that nobody meant.",
        ("product_gated",),
        (),
        "The gate's rules are in [data quality](data-quality.md).",
    ),
    Control(
        "Spread and impact",
        "In a thin book the price that was seen is not the one that is paid.",
        ("spread", "impact"),
        ("controls.max_spread", "controls.max_impact", "controls.book_required"),
        "Where a source shows no book, the order's share of a day's volume bounds it.",
    ),
    Control(
        "Position",
        "What is on its way, or perhaps is, counts as if it were there.",
        ("position_size", "open_positions", "in_doubt", "asset_frozen"),
        ("limits.max_position_size", "limits.max_open_positions"),
    ),
    Control(
        "Buying power",
        "Cash is what the ledger and the venue both say is free: the smaller of the two.",
        ("balance",),
        ("allocation.cash_reserve", "costs.taker_fee", "costs.slippage"),
        "Free of holds, doubts, slippage and fees. On paper the ledger alone is asked.",
    ),
    Control(
        "Cumulative volume",
        "Many small orders are one large one.",
        ("daily_volume", "hourly_volume"),
        ("limits.max_daily_volume_usd", "controls.max_hourly_share"),
        "Counted at the send, buys and sells.",
    ),
    Control(
        "Order counts",
        "A loop that orders shows in the count before it shows in the money.",
        ("entries_in_slot", "orders_in_hour", "orders_in_day", "live_orders"),
        (
            "controls.max_entries_per_slot",
            "controls.max_orders_per_hour",
            "controls.max_orders_per_day",
            "controls.max_live_orders",
        ),
        "By product; exits count and are not held up.",
    ),
    Control(
        "Message throttle",
        "A venue that throttles us must still take our cancels.",
        ("messages",),
        ("controls.max_messages_per_minute",),
        "Entries may use seven tenths. The adapter keeps a rate budget of its own.",
    ),
    Control(
        "Repeated execution",
        "A strategy that buys again and again has lost sight of what it holds.",
        ("repeated_entries",),
        ("controls.max_repeated_entries",),
        "The product's breaker opens: only a person's `keel breaker resume` leads out, and the count begins anew.",
    ),
    Control(
        "Duplicates",
        "The same decision made twice is one decision.",
        ("duplicate", "like_order"),
        ("controls.duplicate_seconds",),
        "Hard: one order per product, slot and leg, by its derived id. "
        "Soft: a buy within 1 % of the quantity and 0.1 % of the price of one just sent.",
    ),
    Control(
        "Self-trade",
        "Trading with oneself costs two fees and looks like manipulation.",
        ("self_trade",),
        (),
        "Against every live limit sale of the portfolio, orders by hand included.",
    ),
    Control(
        "Fee sanity",
        "A fee tier that is not the one reckoned with turns a good plan into a bad one.",
        ("fee",),
        ("controls.max_fee_ratio", "costs.taker_fee"),
        "Asked of a real venue in every run; on paper the plan's own fees apply.",
    ),
    Control(
        "Slippage after the fact",
        "What the checks estimate, the fills tell.",
        ("mean_slippage",),
        ("controls.max_mean_slippage",),
        "After the trade: the mean of the last ten fills opens the plan's breaker.",
    ),
    Control(
        "Time to live",
        "Yesterday's judgement is not to trade tomorrow.",
        ("order_life",),
        ("orders.time_to_live_seconds", "controls.order_life_seconds"),
        "An order that was not sent in time is abandoned, and the venue ends a resting one by its own clock.",
    ),
    Control(
        "Wire equals intent",
        "What leaves is what was approved, byte for byte.",
        (),
        (),
        "The SHA-256 of the approved body is compared at the exchange's own connection; a difference is not sent.",
    ),
    Control(
        "Live arming",
        "Nothing trades real money by accident, or for longer than somebody looks.",
        ("permission_drift", "venue_clock_seconds"),
        (),
        "See [deployment](deployment.md): the checks before live trading, and a person's word for a day at most.",
    ),
    Control(
        "Configuration and code",
        "Two versions at work are two opinions on one account.",
        ("code_versions", "configurations"),
        (),
        "Every evaluation and order carries the hash of the plan with its limits.",
    ),
    Control(
        "Model output and leverage",
        "A model that breaks says so with impossible or sudden numbers.",
        ("signal", "signals_turned", "leverage", "portfolio_volatility", "correlated"),
        ("controls.max_flip_share", "checks.max_leverage", "limits.max_portfolio_volatility", "controls.max_correlated_variance"),
        "Holdings that move together are one holding: their share of the variance is bounded.",
    ),
)
