"""A trading plan: what to trade, by which strategy, within which limits. Text enters here, so it is pydantic.

Plans live in `config/plans/*.toml`, limit profiles in `config/limits/*.toml`; both are read and joined by
`config.plans`, which reports every problem of a file at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from trading.errors import ConfigurationError
from trading.market import INTERVALS, Quote
from trading.money import ONE, canonical, ceil_to, dec, digest, floor_to, text
from trading.orders import OrderType, Request, Side


def _number(value: object) -> Decimal:
    """`dec`, with the error that pydantic collects: a plan reports all of its problems at once."""
    try:
        return dec(value)  # type: ignore[arg-type]  # refuses what is no number
    except ConfigurationError:
        raise ValueError("expected a finite number") from None


def _not_bool(value: object) -> object:
    """`true` is no number, though Python counts with it."""
    if isinstance(value, bool):
        raise ValueError("expected a number")  # noqa: TRY004  pydantic collects this one
    return value


# Every number ends somewhere: a bound that is far beyond all use is a slip of the pen, and would be no bound at all.
Money = Annotated[Decimal, BeforeValidator(_number), Field(le=10**12)]
Multiple = Annotated[Decimal, BeforeValidator(_number), Field(le=1000)]
Ratio = Annotated[Decimal, BeforeValidator(_number), Field(ge=0, le=1)]
PositiveMoney = Annotated[Money, Field(gt=0)]
Whole = Annotated[int, BeforeValidator(_not_bool)]
Count = Annotated[Whole, Field(ge=1, le=10**6)]
Seconds = Annotated[Whole, Field(ge=1, le=86_400)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
ProductId = Annotated[str, Field(pattern=r"^[A-Z0-9]{1,16}-[A-Z0-9]{1,16}$")]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Limits(Part):
    """What may be risked. Amounts in the cash asset; shares and volatility are ratios. No limit may be missing."""

    max_order_size_usd: PositiveMoney = Field(description="largest notional of one order")
    max_daily_volume_usd: PositiveMoney = Field(description="largest notional sent in one UTC day, buys and sells")
    max_open_positions: Count = Field(description="products held at once")
    max_daily_loss_usd: PositiveMoney = Field(description="loss since the day's first mark, open P&L included")
    max_position_size: Ratio = Field(description="largest share of equity in one product")
    max_portfolio_volatility: Multiple = Field(gt=0, description="largest annualised volatility of the portfolio")


class StrategyChoice(Part):
    name: str = Field(min_length=1, description="a registered name, or module:attribute of your own")
    parameters: dict[str, Any] = Field(default_factory=dict)


class Allocation(Part):
    """From signals to weights: a full signal wants `weight` of equity, clipped to the limits."""

    weight: Ratio = Field(default=Decimal("0.2"), description="target share of equity of a product at signal 1")
    no_trade_band: Ratio = Field(default=Decimal("0.02"), description="smaller moves of a weight are not traded")
    cash_reserve: Ratio = Field(default=Decimal("0.02"), description="share of equity that is never invested")


class Costs(Part):
    """What trading costs on paper, and what validation assumes; ratios of notional."""

    spread: Ratio = Field(default=Decimal("0.0004"), description="full bid-ask spread of replays and synthetic quotes")
    slippage: Ratio = Field(default=Decimal("0.0005"), description="added against us to every market fill on paper")
    maker_fee: Ratio = Field(default=Decimal("0.006"), description="fee tier of a resting fill")
    taker_fee: Ratio = Field(default=Decimal("0.012"), description="fee tier of an immediate fill")
    participation: Ratio = Field(default=Decimal("0.1"), description="largest share of a candle's volume that fills us")

    @property
    def outlay(self) -> Decimal:
        """Cash that a buy may take at worst per unit of its notional: 1 + slippage, and the taker fee on that."""
        return (ONE + self.slippage) * (ONE + self.taker_fee)

    @property
    def proceeds(self) -> Decimal:
        """Cash that a sale surely brings per unit of its notional: 1 - slippage, less the taker fee on that."""
        return (ONE - self.slippage) * (ONE - self.taker_fee)


class Orders(Part):
    type: Literal["market", "limit"] = "market"
    limit_offset: Ratio = Field(default=Decimal("0.001"), description="limit price away from the mid, passive side")
    stop_collar: Ratio = Field(default=Decimal("0.02"), description="limit of a stop where the venue wants one, away from it")
    min_notional: PositiveMoney = Field(default=Decimal(5), description="smaller orders are not made")
    time_to_live_seconds: Whole = Field(default=60, ge=1, le=3600, description="an order is not sent later than this")


class Checks(Part):
    """Bounds of order validation that no profile sets."""

    price_band: Ratio = Field(default=Decimal("0.05"), description="limit prices stay this near to the quote's mid")
    range_candles: Count = Field(default=24, description="candles that make up the recent range")
    range_band: Ratio = Field(default=Decimal("0.25"), description="the quote stays this near to the recent range")
    max_leverage: Money = Field(default=Decimal(1), ge=1, le=1, description="spot only")
    quote_age_seconds: Seconds = Field(default=120, description="an older quote is stale")


class Controls(Part):
    """Bounds of the finer entry guards: a profile sets each of them, a plan's own `[controls]` table changes single ones."""

    max_spread: Ratio = Field(default=Decimal("0.005"), description="widest bid-ask spread, of the mid")
    max_impact: Ratio = Field(default=Decimal("0.0025"), description="what an order may move its own price against the book")
    book_required: bool = Field(default=False, description="without an order book no entry is made")
    max_volume_share: Ratio = Field(default=Decimal("0.002"), description="largest share of the last day's volume in one order")
    vwap_band: Ratio = Field(default=Decimal("0.10"), description="the mid stays this near to the last hour's mean price")
    candle_age_intervals: Multiple = Field(default=Decimal(2), gt=0, description="an older last candle is stale, in intervals")
    second_source_required: bool = Field(default=False, description="without a second price source no entry is made")
    max_second_deviation: Ratio = Field(default=Decimal("0.0075"), description="between the mids of the two price sources")
    second_age_seconds: Seconds = Field(default=10, description="an older second price is none")
    max_hourly_share: Ratio = Field(default=Decimal("0.5"), description="share of max_daily_volume_usd within one hour")
    max_entries_per_slot: Count = Field(default=1, description="entries of one product in one slot")
    max_orders_per_hour: Count = Field(default=10, description="orders of one product sent within an hour")
    max_orders_per_day: Count = Field(default=50, description="orders of one product sent in one UTC day")
    max_live_orders: Count = Field(default=3, description="orders of one product that may still trade")
    max_messages_per_minute: Count = Field(default=60, description="of which entries leave three tenths to cancels")
    max_repeated_entries: Count = Field(default=6, description="entries of one product without an exit")
    duplicate_seconds: Whole = Field(
        default=600, ge=0, le=86_400, description="a like order within this time is the same one again"
    )
    order_life_seconds: Whole = Field(
        default=90_000, ge=1, le=31_536_000, description="an order with an end rests no longer than this"
    )
    max_fee_ratio: Multiple = Field(default=Decimal("1.5"), ge=1, description="the venue's taker fee over the plan's")
    max_mean_slippage: Ratio = Field(default=Decimal("0.003"), description="mean of the last ten fills, positive = worse")
    max_correlated_variance: Ratio = Field(default=Decimal("0.70"), description="share of variance from moving together")
    max_flip_share: Ratio = Field(default=Decimal("0.8"), description="share of all products whose signal turns at once")


class Scaling(Part):
    """How entries shrink below the limits: see `trading.risk.scaling`. Nothing here makes one larger."""

    volatility_target: Multiple | None = Field(
        default=None, gt=0, description="annualised; above it entries shrink in proportion"
    )
    drawdown_begins: Ratio = Field(default=Decimal("0.5"), description="share of breaker.max_drawdown from which entries shrink")
    drawdown_least: Ratio = Field(default=Decimal("0.25"), description="size of entries at breaker.max_drawdown")


class BreakerRules(Part):
    """When the breaker opens; each figure by itself is enough."""

    max_daily_loss: Ratio = Decimal("0.05")
    max_drawdown: Ratio = Decimal("0.10")
    max_open_positions: Count = 5
    max_volatility: Multiple = Field(default=Decimal("0.50"), gt=0)
    max_position_share: Ratio = Decimal("0.35")
    max_consecutive_errors: Count = 5
    max_error_rate: Ratio = Field(default=Decimal("0.5"), description="failed share of the last 20 operations")
    max_weekly_loss: Ratio = Decimal("0.08")
    max_losing_exits: Count = Field(default=4, description="sales in a row that lost")
    max_rejects: Count = Field(default=3, description="by the venue, within 10 minutes")
    max_read_failures: Count = Field(default=5, description="of the venue, within 2 minutes")
    max_doubt_seconds: Seconds = Field(default=120, description="age of an order whose fate is unknown")
    max_doubts: Count = Field(default=2, description="orders whose fate is unknown")
    max_silence_seconds: Seconds = Field(default=90, description="without a heartbeat of the stack")
    max_unclaimed_seconds: Seconds = Field(default=300, description="of a slot that was due")
    cool_down_minutes: Whole = Field(default=60, ge=0, le=525_600, description="no resume earlier than this after it opened")
    test_period_minutes: Whole = Field(default=1440, ge=1, le=525_600, description="half-open this long, then closed")
    test_size: Ratio = Field(default=Decimal("0.5"), description="size of orders while half-open")


class Ramp(Part):
    """How a plan with real orders comes to more money: step by step, each on a person's word and for cause."""

    steps: tuple[PositiveMoney, ...] = Field(
        default=(Decimal(100), Decimal(200), Decimal(500), Decimal(1000)),
        min_length=1,
        description="capital of each step, rising",
    )
    days: Whole = Field(default=7, ge=0, le=3650, description="days on a step before the next one")
    max_divergence: Ratio = Field(default=Decimal("0.01"), description="mean price divergence from the paper shadow")
    max_drawdown: Ratio = Field(default=Decimal("0.05"), description="drawdown on the step that demotes and forbids the next")

    @field_validator("steps")
    @classmethod
    def _rising(cls, value: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("expected amounts that rise from step to step")
        return value


class Plan(Part):
    """One plan, complete: its profile's limits are part of it, so that its hash names everything that decides."""

    name: Name
    description: str = ""
    portfolio: Name = "main"
    products: tuple[ProductId, ...]
    interval: str = "1h"
    capital: PositiveMoney = Decimal(1000)
    cash_asset: str = "USD"
    lots: Literal["fifo", "hifo", "average"] = Field(default="fifo", description="which lots a sale gives up; the portfolio's")
    staleness_intervals: Multiple = Field(default=Decimal(1), gt=0, description="an older slot takes no new risk")
    late_exit_intervals: Multiple = Field(default=Decimal(1), gt=0, description="up to this age a slot that is stale still exits")
    profile: Literal["conservative", "moderate", "aggressive"] = "moderate"
    limits: Limits
    strategy: StrategyChoice
    allocation: Allocation = Allocation()
    costs: Costs = Costs()
    orders: Orders = Orders()
    checks: Checks = Checks()
    controls: Controls = Controls()
    scaling: Scaling = Scaling()
    breaker: BreakerRules = BreakerRules()
    ramp: Ramp = Ramp()

    @field_validator("interval")
    @classmethod
    def _known_interval(cls, value: str) -> str:
        if value not in INTERVALS:
            raise ValueError(f"expected one of {', '.join(INTERVALS)}")
        return value

    @field_validator("products")
    @classmethod
    def _unique_products(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        doubled = sorted({product for product in value if value.count(product) > 1})
        if not value:
            raise ValueError("expected at least one product")
        if doubled:
            raise ValueError(f"expected each product once, {', '.join(doubled)} is listed twice")
        return value

    def canonical(self) -> str:
        return canonical(self.model_dump(mode="json"))

    @property
    def sha256(self) -> str:
        """Names this plan with its limits: stored with every cycle and order."""
        return digest(self.canonical())


def check(plan: Plan) -> None:
    """Raises ConfigurationError with every value that no plan file could have said: a copy with changes asks nobody."""
    try:
        Plan.model_validate(plan.model_dump(warnings=False))
    except ValidationError as error:
        raise ConfigurationError([f"plan {plan.name}: {key}: {rest}" for key, rest in worded(error, Plan)]) from None


def order_price(request: Request, quote: Quote) -> Decimal:
    """The price that an order is valued at: its limit (or stop) price, never better for us than the quote's touch.

    A buy limit above the ask may fill up to the limit, one below it at the limit; a sell limit under the bid fills at
    the bid. Sizing and validation share this, so that what one clips the other does not refuse.
    """
    stated = request.limit_price if request.limit_price is not None else request.stop_price
    if request.side is Side.BUY:
        return quote.ask if stated is None else stated
    return quote.bid if stated is None else max(stated, quote.bid)


def collared(request: Request, plan: Plan, increment: Decimal) -> Request:
    """The request as a venue without plain stops takes it: a stop becomes a stop limit at the plan's collar, else as it is.

    A sale's limit lies under its stop, a buy's over it, rounded towards the stop: a gap beyond the collar does not fill.
    """
    if request.type is not OrderType.STOP or request.stop_price is None:
        return request
    collar = plan.orders.stop_collar
    if request.side is Side.BUY:
        limit = floor_to(request.stop_price * (ONE + collar), increment)
    else:
        limit = ceil_to(request.stop_price * (ONE - collar), increment)
    return replace(request, type=OrderType.STOP_LIMIT, limit_price=limit)


def worded(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """(key, `found X, expected Y`) of each problem that pydantic found, in this project's words."""
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        inner, colon, rest = problem["msg"].removeprefix("Value error, ").partition(": ")
        if problem["type"] == "value_error" and isinstance(problem["input"], dict) and colon:
            # A rule between several keys of one table: its own words name the key that breaks it.
            yield f"{key}.{inner}" if key else inner, rest
        elif problem["type"] == "extra_forbidden":
            yield key, f"found an unknown key, expected one of {', '.join(_known_keys(model, problem['loc'][:-1]))}"
        elif problem["type"] == "missing":
            yield key, "found nothing, expected a value"
        else:
            yield key, f"found {_found(problem['input'])}, expected {_expectation(problem['msg'])}"


def _known_keys(model: type[BaseModel], parents: Sequence[int | str]) -> list[str]:
    for parent in parents:
        annotation = model.model_fields[str(parent)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    # A plan's limits are no key of its file: they come from the profile.
    return [key for key in model.model_fields if key != "limits"]


def _found(value: object) -> str:
    return text(value) if isinstance(value, Decimal) and value.is_finite() else repr(value)


def _expectation(message: str) -> str:
    plain = message.removeprefix("Value error, ").removeprefix("expected ").removeprefix("Input should be ")
    plain = plain.replace("String should match pattern", "text that matches")
    plain = plain.replace("valid tuple", "list")
    return plain[:1].lower() + plain[1:]
