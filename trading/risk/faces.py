"""Validator and breaker under the names that library users write: thin faces over the code that the pipeline runs.

Numbers come as Decimal, int, str or float. A face runs only the checks whose inputs it was given, and it remembers in
memory only: what the pipeline does is decided by the breaker rows in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from trading.errors import ConfigurationError
from trading.market import Product, Quote
from trading.money import ONE, ZERO, Number, dec
from trading.orders import OrderType, Request, Side, TimeInForce
from trading.plan import BreakerRules, order_price, worded
from trading.risk.breaker import (
    BreakerRow,
    BreakerState,
    NotResumed,
    RiskFigures,
    Violation,
    advance,
    closed,
    judge,
    resume,
)
from trading.risk.checks import ORDER_CHECKS, PRODUCT_CHECKS, Bounds, Lane, Proposed
from trading.risk.comovement import ALONE
from trading.risk.validator import Outcome, order_finding, product_finding

_Names = TypeVar("_Names", bound=StrEnum)

Clock = Callable[[], datetime]

ERROR_RATE_OPERATIONS = 20  # the error rate looks at this many of the last operations
HISTORY_MAX = 1000  # violations remembered; the oldest go first


def _wall_clock() -> datetime:
    # The domain reads no clock; a face that was given none borrows the one of the configuration.
    from config.clock import wall_clock  # noqa: PLC0415

    return wall_clock()


# Breaker -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerConfig:
    """When the breaker opens. Ratios, not percent: 0.05 is 5 %."""

    max_daily_loss_pct: Number = Decimal("0.05")
    max_drawdown_pct: Number = Decimal("0.10")
    max_open_positions: int = 5
    max_portfolio_volatility: Number = Decimal("0.50")
    max_consecutive_errors: int = 5
    max_error_rate: Number = Decimal("0.5")
    max_position_pct: Number = Decimal("0.35")
    cool_down_minutes: int = 60
    test_period_minutes: int = 1440

    def rules(self) -> BreakerRules:
        """The same as the pipeline's rules. Raises ConfigurationError for a value that is no limit."""
        given = {
            "max_daily_loss": self.max_daily_loss_pct,
            "max_drawdown": self.max_drawdown_pct,
            "max_open_positions": self.max_open_positions,
            "max_volatility": self.max_portfolio_volatility,
            "max_consecutive_errors": self.max_consecutive_errors,
            "max_error_rate": self.max_error_rate,
            "max_position_share": self.max_position_pct,
            "cool_down_minutes": self.cool_down_minutes,
            "test_period_minutes": self.test_period_minutes,
        }
        try:
            return BreakerRules.model_validate(given)
        except ValidationError as error:
            found = [f"CircuitBreakerConfig.{key}: {rest}" for key, rest in worded(error, BreakerRules)]
            raise ConfigurationError(found) from None


class Tripped(NamedTuple):
    """One entry of the violation history."""

    at: datetime
    code: str
    observed: Decimal | None
    limit: Decimal
    message: str


class CircuitBreaker:
    """A breaker of its own, closed at first: any violation opens it, only a person's `resume` leads out.

    `clock` gives timezone-aware times; without one the wall clock is used.
    """

    def __init__(self, config: CircuitBreakerConfig | None = None, *, clock: Clock | None = None) -> None:
        self._rules = (config or CircuitBreakerConfig()).rules()
        self._clock = clock or _wall_clock
        self._row = closed("face", self._clock())
        self._history: list[Tripped] = []
        self._peak = ZERO
        self._errors = 0
        self._failed: list[bool] = []

    @property
    def state(self) -> BreakerState:
        """`closed`, `open` or `half_open`."""
        return self._row.state

    @property
    def row(self) -> BreakerRow:
        """State with level, reasons and times."""
        return self._row

    def get_violation_history(self) -> list[Tripped]:
        """What tripped, when, observed and limit; oldest first, the last 1,000."""
        return list(self._history)

    def check_and_update(
        self,
        portfolio_value: Number | None = None,
        daily_pnl: Number | None = None,
        open_positions: int | None = None,
        largest_position_pct: Number | None = None,
        portfolio_volatility: Number | None = None,
    ) -> bool:
        """May trade? Judges the figures that were given, opens on any violation, closes at the end of a test period.

        `daily_pnl` is the change since the day's start, open P&L included, negative when money was lost; it is measured
        against `portfolio_value`. Drawdown is taken from the highest `portfolio_value` that this breaker has seen.
        """
        value = None if portfolio_value is None else dec(portfolio_value, "portfolio_value")
        pnl = None if daily_pnl is None else dec(daily_pnl, "daily_pnl")
        figures = RiskFigures(
            daily_loss=None if pnl is None or value is None or value <= 0 else -pnl / value,
            drawdown=self._drawdown(value),
            open_positions=open_positions,
            largest_position_share=_optional(largest_position_pct, "largest_position_pct"),
            volatility=_optional(portfolio_volatility, "portfolio_volatility"),
            consecutive_errors=self._errors,
            operations=len(self._failed),
            failed_operations=sum(self._failed),
        )
        given = {
            "daily_loss": pnl,
            "drawdown": value,
            "open_positions": open_positions,
            "position_share": largest_position_pct,
            "volatility": portfolio_volatility,
        }
        codes = {code for code, figure in given.items() if figure is not None} | {"consecutive_errors", "error_rate"}
        return self._update(judge(self._rules, figures, only=codes))

    def record_error(self) -> None:
        """An operation failed: counts towards consecutive errors and the error rate."""
        self._errors += 1
        self._remember(failed=True)

    def record_success(self) -> None:
        """An operation worked: ends a run of errors."""
        self._errors = 0
        self._remember(failed=False)

    def resume(self, actor: str, reason: str) -> BreakerRow | NotResumed:
        """A person's resume: half-open for the test period, or why not. Counted errors start again from zero."""
        answer = resume(self._row, self._rules, self._clock(), actor=actor, reason=reason)
        if isinstance(answer, BreakerRow):
            self._row, self._errors, self._failed = answer, 0, []
        return answer

    def _drawdown(self, value: Decimal | None) -> Decimal | None:
        if value is None:
            return None
        self._peak = max(self._peak, value)
        return ONE - value / self._peak if self._peak > 0 else None

    def _update(self, violations: list[Violation]) -> bool:
        now = self._clock()
        found = [Tripped(now, v.code, v.observed, v.limit, v.message) for v in violations]
        self._history = [*self._history, *found][-HISTORY_MAX:]
        self._row = advance(self._row, violations, self._rules, now)
        return self._row.state is not BreakerState.OPEN

    def _remember(self, *, failed: bool) -> None:
        self._failed = [*self._failed, failed][-ERROR_RATE_OPERATIONS:]


# Validator -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ValidationResponse:
    """Was the order allowed, and every check that ran."""

    allowed: bool
    outcomes: tuple[Outcome, ...]

    @property
    def messages(self) -> list[str]:
        """Every problem with its code, observed value and limit; empty when allowed."""
        return [outcome.message for outcome in self.outcomes if not outcome.passed]


class OrderValidator:
    """Checks one order against limits, by the same checks as the pipeline; it keeps nothing between calls.

    Amounts are in quote, `max_position_size_pct` and `price_band` are ratios; a limit that is None is not checked.
    """

    def __init__(
        self,
        max_order_size_usd: Number | None = 1000,
        max_position_size_pct: Number | None = Decimal("0.30"),
        max_open_positions: int | None = 5,
        *,
        min_order_size_usd: Number | None = None,
        max_leverage: Number | None = 1,
        price_band: Number | None = Decimal("0.05"),
        max_daily_volume_usd: Number | None = None,
        fee_rate: Number = 0,
    ) -> None:
        self._order_size_max = _optional(max_order_size_usd, "max_order_size_usd")
        self._order_size_min = _optional(min_order_size_usd, "min_order_size_usd")
        self._position_share = _optional(max_position_size_pct, "max_position_size_pct")
        self._open_positions = max_open_positions
        self._leverage = _optional(max_leverage, "max_leverage")
        self._price_band = _optional(price_band, "price_band")
        self._day_volume = _optional(max_daily_volume_usd, "max_daily_volume_usd")
        self._outlay = ONE + dec(fee_rate, "fee_rate")

    def validate_order(
        self,
        symbol: str,
        side: str,
        quantity: Number,
        order_type: str = "market",
        price: Number | None = None,
        current_price: Number | None = None,
        portfolio_value: Number | None = None,
        current_position_size: Number | None = None,
        open_positions: int | None = None,
        available_balance: Number | None = None,
        *,
        stop_price: Number | None = None,
        daily_volume: Number | None = None,
        total_exposure: Number | None = None,
    ) -> ValidationResponse:
        """Allowed or not, with every problem. `current_position_size` is in base units, `total_exposure` in quote.

        A sale only reduces: limits on size of position, number of positions and volume never hold it up. Raises
        ConfigurationError for an unknown side or order type, or what is no number.
        """
        request = _request(symbol, side, quantity, order_type, price=price, stop_price=stop_price)
        given = _Given(
            price=_optional(current_price, "current_price"),
            value=_optional(portfolio_value, "portfolio_value"),
            held=_optional(current_position_size, "current_position_size"),
            open_positions=open_positions,
            cash=_optional(available_balance, "available_balance"),
            day_volume=_optional(daily_volume, "daily_volume"),
            exposure=_optional(total_exposure, "total_exposure"),
        )
        proposed = self._proposed(request, given)
        codes = self._codes(request, given)
        product = [
            Outcome(check.code, *product_finding(check, proposed.lane, proposed.bounds))
            for check in PRODUCT_CHECKS
            if check.code in codes
        ]
        order = [Outcome(check.code, *order_finding(check, proposed)) for check in ORDER_CHECKS if check.code in codes]
        outcomes = (*product, *order)
        return ValidationResponse(all(outcome.passed for outcome in outcomes), outcomes)

    def _codes(self, request: Request, given: _Given) -> set[str]:
        """The checks whose inputs and limits are there."""
        priced = given.price is not None or request.limit_price is not None or request.stop_price is not None
        ready = {
            "quantity": True,
            "terms": True,
            "price_known": given.price is not None,
            "holding": request.side is Side.BUY or given.held is not None,
            "order_size_max": priced and self._order_size_max is not None,
            "price_band": given.price is not None and self._price_band is not None,
        }
        if request.side is Side.BUY:
            valued = priced and given.value is not None
            held = given.held is not None
            ready |= {
                "equity_known": given.value is not None,
                "order_size_min": priced and self._order_size_min is not None,
                "position_size": valued and held and self._position_share is not None,
                "open_positions": held and given.open_positions is not None and self._open_positions is not None,
                "balance": priced and given.cash is not None,
                "leverage": valued and (held or given.exposure is not None) and self._leverage is not None,
                "daily_volume": priced and given.day_volume is not None and self._day_volume is not None,
            }
        return {code for code, is_ready in ready.items() if is_ready}

    def _proposed(self, request: Request, given: _Given) -> Proposed:
        price = given.price if given.price is not None else request.limit_price or request.stop_price
        held, value = given.held or ZERO, given.value or ZERO
        worth = held * price if price is not None else ZERO
        quote = None if price is None else Quote(product=request.product, bid=price, ask=price, at=_NO_TIME)
        band = self._price_band or ZERO
        lane = Lane(
            id=request.product,
            product=_ANY_PRODUCT,
            quote=quote,
            listed=True,
            price_low=(price or ZERO) * (ONE - band),
            price_high=(price or ZERO) * (ONE + band),
        )
        bounds = Bounds(
            order_size_max=self._order_size_max or ZERO,
            order_size_min=self._order_size_min or ZERO,
            position_value_max=(self._position_share or ZERO) * value,
            open_positions_max=self._open_positions or 0,
            day_volume_max=self._day_volume or ZERO,
            exposure_max=(self._leverage or ZERO) * value,
            price_band=band,
            outlay=self._outlay,
            equity=given.value,
        )
        return Proposed(
            request=request,
            lane=lane,
            bounds=bounds,
            notional=Decimal("NaN") if quote is None else request.quantity * order_price(request, quote),
            cash=given.cash or ZERO,
            day_volume=given.day_volume or ZERO,
            exposure=worth if given.exposure is None else given.exposure,
            open_positions=given.open_positions or 0,
            quantity=held,
            free=held,
            value=worth,
            active=held > ZERO,
            is_repeated=False,
            batch_orders=0,
            orders=0,
            together=ALONE,
        )


class _Given(NamedTuple):
    """What the caller knows; None for what was left out."""

    price: Decimal | None
    value: Decimal | None
    held: Decimal | None
    open_positions: int | None
    cash: Decimal | None
    day_volume: Decimal | None
    exposure: Decimal | None


_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)  # the face is given no time of its price: no check of age is run
_ANY_PRODUCT = Product(
    id="",
    base="",
    quote="",
    base_increment=ONE,
    price_increment=ONE,
    base_min_size=ZERO,
    base_max_size=ZERO,
    min_notional=ZERO,
)


def _request(
    symbol: str, side: str, quantity: Number, order_type: str, *, price: Number | None, stop_price: Number | None
) -> Request:
    kind = _choice(OrderType, order_type, "order_type")
    stop = price if stop_price is None and kind is OrderType.STOP else stop_price
    return Request(
        product=symbol,
        side=_choice(Side, side, "side"),
        quantity=dec(quantity, "quantity"),
        type=kind,
        # A market order's `price` is only what the caller thinks it will get: it is no term of the order.
        limit_price=None if kind in (OrderType.MARKET, OrderType.STOP) else _optional(price, "price"),
        stop_price=_optional(stop, "stop_price"),
        time_in_force=TimeInForce.IOC if kind is OrderType.MARKET else TimeInForce.GTC,
    )


def _choice(names: type[_Names], value: str, what: str) -> _Names:
    try:
        return names(str(value).lower())
    except ValueError:
        raise ConfigurationError(f"{what}: found {value!r}, expected one of {', '.join(names)}") from None


def _optional(value: Number | None, what: str) -> Decimal | None:
    return None if value is None else dec(value, what)
