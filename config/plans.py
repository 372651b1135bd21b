"""Trading plans from `plans/*.toml`, joined with their limit profile and the limits in the environment.

A bad plan is reported whole: every problem at once, each with file, key, what was found and what was expected.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from trading import strategies
from trading.errors import ConfigurationError
from trading.money import dec, text
from trading.plan import Controls, Limits, Plan, StrategyChoice, worded

FOLDER = Path(__file__).parent
PLANS = FOLDER / "plans"
PROFILES = FOLDER / "limits"
ENVIRONMENT_NAMES: Mapping[str, str] = {name.upper(): name for name in Limits.model_fields}
"""`MAX_ORDER_SIZE_USD` ... -> the limit that it sets."""


class SourcedLimit(NamedTuple):
    """A limit with where it comes from: `environment MAX_ORDER_SIZE_USD` or `profile moderate`."""

    value: Decimal
    source: str


def profile(name: str) -> tuple[Limits, Controls]:
    """What a profile sets by itself, without the environment."""
    return Limits.model_validate(_profile_limits(name)), Controls.model_validate(_read(PROFILES / f"{name}.toml")["controls"])


def plan_names(folder: Path = PLANS) -> list[str]:
    """The plans that exist, by name."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def load_plan(name_or_path: str | Path, environ: Mapping[str, str], folder: Path = PLANS) -> Plan:
    """The complete plan: file, its profile's limits and controls, and the limits that the environment overrides.

    A name is looked up in `folder`; anything with a separator or `.toml` is a path. Raises ConfigurationError with
    every problem of file, limits and strategy.
    """
    path = _plan_path(name_or_path, folder)
    problems: list[str] = []
    raw = _read(path)
    limits = _limits(str(raw.get("profile", Plan.model_fields["profile"].default)), environ, problems)
    plan = _validated(path, raw, limits, problems)
    if plan is not None:
        problems += [f"{_shown(path)}: {problem}" for problem in _contradictions(plan, environ)]
        if path.parent == folder and plan.name != path.stem:
            problems.append(f"{_shown(path)}: name: found {plan.name!r}, expected the file's name, {path.stem!r}")
    if plan is None or problems:
        raise ConfigurationError(problems)
    return plan


def load_plans(environ: Mapping[str, str], folder: Path = PLANS) -> dict[str, Plan]:
    """Every plan of a folder by name. Raises ConfigurationError with the problems of all of them."""
    plans: dict[str, Plan] = {}
    problems: list[str] = []
    for name in plan_names(folder):
        try:
            plans[name] = load_plan(name, environ, folder)
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return plans


def sourced_limits(profile: str, environ: Mapping[str, str]) -> dict[str, SourcedLimit]:
    """Each limit by its environment name, with value and source. Raises ConfigurationError with every problem."""
    problems: list[str] = []
    limits = _limits(profile, environ, problems)
    if limits is None and not problems:
        problems.append(f"profile: found {profile!r}, expected one of {', '.join(_profiles())}")
    if limits is None or problems:
        raise ConfigurationError(problems)
    set_here = _overrides(environ)
    return {
        variable: SourcedLimit(
            dec(getattr(limits, name)), f"environment {variable}" if name in set_here else f"profile {profile}"
        )
        for variable, name in ENVIRONMENT_NAMES.items()
    }


def _plan_path(name_or_path: str | Path, folder: Path) -> Path:
    wanted = str(name_or_path)
    is_path = isinstance(name_or_path, Path) or "/" in wanted or "\\" in wanted or wanted.endswith(".toml")
    path = Path(wanted) if is_path else folder / f"{wanted}.toml"
    if not path.is_file():
        known = ", ".join(plan_names(folder)) or "none"
        raise ConfigurationError(f"plan: found no file {_shown(path)}, expected one of the plans in {_shown(folder)}: {known}")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{_shown(path)}: found what is not TOML, expected TOML 1.0: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{_shown(path)}: cannot be read: {error.strerror}") from error


def _profiles() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def _overrides(environ: Mapping[str, str]) -> dict[str, str]:
    """Limit -> text from the environment; an empty variable counts as unset."""
    return {name: environ[variable] for variable, name in ENVIRONMENT_NAMES.items() if environ.get(variable, "").strip()}


def _limits(profile: str, environ: Mapping[str, str], problems: list[str]) -> Limits | None:
    """The profile's limits under the environment's; None, with the problems noted, when they are not usable.

    An unknown profile adds no problem here: the plan's own validation names it.
    """
    if profile not in _profiles():
        return None
    path = PROFILES / f"{profile}.toml"
    set_here = _overrides(environ)
    try:
        return Limits.model_validate(_profile_limits(profile) | set_here)
    except ValidationError as error:
        for key, rest in worded(error, Limits):
            where = f"environment: {key.upper()}" if key in set_here else f"{_shown(path)}: {key}"
            problems.append(f"{where}: {rest}")
        return None


def _controls(raw: Mapping[str, Any], problems: list[str]) -> object:
    """The profile's controls under the plan's own; each problem of the profile's is noted with the file that has it."""
    profile, own = str(raw.get("profile", Plan.model_fields["profile"].default)), raw.get("controls", {})
    if profile not in _profiles() or not isinstance(own, dict):
        return own
    path = PROFILES / f"{profile}.toml"
    given = _read(path).get("controls", {})
    problems += [f"{_shown(path)}: controls.{name}: found nothing, expected a value" for name in _unset(given)]
    try:
        Controls.model_validate(given)
    except ValidationError as error:
        problems += [f"{_shown(path)}: controls.{key}: {rest}" for key, rest in worded(error, Controls)]
        return own
    return given | own


def _unset(controls: object) -> list[str]:
    return [name for name in Controls.model_fields if not isinstance(controls, dict) or name not in controls]


def _validated(path: Path, raw: Mapping[str, Any], limits: Limits | None, problems: list[str]) -> Plan | None:
    """The plan as pydantic sees it; problems of its limits are noted already."""
    if "limits" in raw:
        problems.append(f"{_shown(path)}: limits: found a table, expected a profile and environment variables instead")
    problems += [f"{_shown(path)}: {problem}" for problem in _foreign_quotes(raw)]
    given = {key: value for key, value in raw.items() if key != "limits"} | {"controls": _controls(raw, problems)}
    try:
        # Unusable limits give way to some, so that the rest of the file is still judged.
        plan = Plan.model_validate(given | {"limits": limits or _strictest_profile()})
    except ValidationError as error:
        problems += [f"{_shown(path)}: {key}: {rest}" for key, rest in worded(error, Plan)]
        problems += [f"{_shown(path)}: {problem}" for problem in _strategy_problems_of(given)]
        return None
    problems += [f"{_shown(path)}: {problem}" for problem in _strategy_problems(plan)]
    return plan if limits is not None else None


def _foreign_quotes(raw: Mapping[str, Any]) -> Iterator[str]:
    """Products that are not quoted in the cash asset, in a file that need not be a valid plan."""
    cash, products = raw.get("cash_asset", Plan.model_fields["cash_asset"].default), raw.get("products")
    for product in products if isinstance(products, list) else ():
        if isinstance(product, str) and "-" in product and not product.endswith(f"-{cash}"):
            yield f"products: found {product}, expected products quoted in the cash asset {cash}"


def _strictest_profile() -> Limits:
    return Limits.model_validate(_profile_limits("conservative"))


def _profile_limits(profile: str) -> dict[str, Any]:
    return {key: value for key, value in _read(PROFILES / f"{profile}.toml").items() if key != "controls"}


def _strategy_problems_of(given: Mapping[str, Any]) -> list[str]:
    """Problems of the strategy's parameters in a file that is no valid plan for another reason."""
    try:
        strategies.create(StrategyChoice.model_validate(given.get("strategy")))
    except ValidationError:
        return []  # the choice itself is malformed: named already
    except ConfigurationError as error:
        return error.problems
    return []


def _strategy_problems(plan: Plan) -> list[str]:
    try:
        found = strategies.problems(strategies.create(plan.strategy), plan.products)
    except ConfigurationError as error:
        return error.problems
    return [f"strategy.parameters.{problem}" for problem in found]


class _Bound(NamedTuple):
    """`key` must not be under (or over) what it is compared with."""

    holds: bool
    key: str
    found: Decimal | int
    expected: str


def _contradictions(plan: Plan, environ: Mapping[str, str]) -> Iterator[str]:
    """Settings that are each fine and together never trade, or trip the breaker while every limit is kept."""
    for bound in _bounds(plan, _overrides(environ)):
        if not bound.holds:
            yield f"{bound.key}: found {text(dec(bound.found))}, expected {bound.expected}"


def _bounds(plan: Plan, set_here: Mapping[str, str]) -> Iterable[_Bound]:
    def limit(name: str) -> str:
        source = f"environment {name.upper()}" if name in set_here else f"profile {plan.profile}"
        return f"{name} {text(dec(getattr(plan.limits, name)))} ({source})"

    limits, rules, least = plan.limits, plan.breaker, plan.orders.min_notional
    share = min(plan.allocation.weight, limits.max_position_size)
    return (
        _Bound(
            plan.capital * share >= least,
            "capital",
            plan.capital,
            f"enough for one order of orders.min_notional {text(least)} at a share of {text(share)} of it",
        ),
        _Bound(least <= limits.max_order_size_usd, "orders.min_notional", least, f"at most {limit('max_order_size_usd')}"),
        _Bound(
            limits.max_order_size_usd <= limits.max_daily_volume_usd,
            "limits.max_daily_volume_usd",
            limits.max_daily_volume_usd,
            f"at least {limit('max_order_size_usd')}",
        ),
        _Bound(
            rules.max_position_share >= limits.max_position_size,
            "breaker.max_position_share",
            rules.max_position_share,
            f"at least {limit('max_position_size')}, or every full position opens the breaker",
        ),
        _Bound(
            rules.max_open_positions >= limits.max_open_positions,
            "breaker.max_open_positions",
            rules.max_open_positions,
            f"at least {limit('max_open_positions')}, or the breaker opens within the limits",
        ),
        _Bound(
            rules.max_volatility >= limits.max_portfolio_volatility,
            "breaker.max_volatility",
            rules.max_volatility,
            f"at least {limit('max_portfolio_volatility')}, or the breaker opens within the limits",
        ),
    )


def _shown(path: Path) -> str:
    """A path as people look for it: from the project's folder when it lies inside."""
    absolute = path.absolute()
    root = FOLDER.parent.absolute()
    return str(absolute.relative_to(root)) if absolute.is_relative_to(root) else str(path)
