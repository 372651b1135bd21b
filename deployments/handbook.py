"""`python -m deployments.handbook`: writes docs/risk.md, the risk handbook, from the tables that the code runs on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config.plans import ENVIRONMENT_NAMES, profile
from trading.plan import Plan, StrategyChoice
from trading.risk.catalogue import LOOKS_AT, ORDER_CONTROLS, PRODUCT_CONTROLS, SAYS
from trading.risk.checks import Guard
from trading.risk.handbook import CONTROLS, Control
from trading.risk.watches import BY_CODE

PAGE = Path(__file__).parent.parent / "docs" / "risk.md"
NAMES = ("conservative", "moderate", "aggressive")
WHOM = {
    Guard.INTEGRITY: "every order",
    Guard.ORDER: "all but protective exits",
    Guard.ENTRY: "entries",
}
GUARDS = {
    **{check.code: check.guard for check in PRODUCT_CONTROLS},
    **{check.code: check.guard for check in ORDER_CONTROLS},
}
HEAD = """# Risk handbook

Every order is a request first. It is judged by {checks} checks, one by one, and becomes an order only if all of them pass. What
cannot be known does not pass: no price, no equity, no limit, an error inside a check. Each evaluation is stored with every
check's observed value, its limit, the data that it looked at, the age of that data and the hash of the plan; `keel explain ORDER`
shows it, and a refusal names every check that did not pass.

Whom a check binds:

| Guard | Binds | So that |
|---|---|---|
| integrity | every order | what is sent is well-formed and covered by a holding |
| order | all but protective exits | a slip of the pen stays small |
| entry | entries | new risk is taken on sound data, within limits. **No exit ever meets an entry guard** |

## How to change a bound

- A profile (`config/limits/*.toml`) sets all of `limits.` and `controls.`; a plan names its profile by `profile = "moderate"`.
- `limits.`: by the environment, for all plans: `MAX_ORDER_SIZE_USD=50`. `keel status` says where each value comes from.
- `controls.`, `checks.`, `costs.`, `orders.`, `allocation.`, `scaling.`, `breaker.`: by a table of that name in the plan's file.
- A plan with a changed bound is another configuration: its hash is another one from the next run on.

## Sizes that shrink

Below the limits, entries shrink by two factors, each from zero to one (`trading/risk/scaling.py`); nothing is ever sold by them.

- **Volatility**: target ÷ realised, where realised is the annualised volatility of the wanted weights. The target is
  `scaling.volatility_target`; without one there is no such factor.
- **Drawdown**: 1 up to `scaling.drawdown_begins` × `breaker.max_drawdown`, then in a straight line to `scaling.drawdown_least`.

A cut is told by the run's clips: `BTC-USD: drawdown_scale: observed 0.08, limit full size up to 0.05`.

## The controls
"""
TAIL = """
## What is not covered

- The age of the venue's product rules is not known: they are read anew in every run.
- A limit without an end may rest until it is cancelled; the level cancel of the breaker takes it away.
- A second price source has to be given to the desk: none is opened by default.
"""


def page() -> str:
    """The handbook as Markdown."""
    checks = len(PRODUCT_CONTROLS) + len(ORDER_CONTROLS)
    sections = [line for number, control in enumerate(CONTROLS, 1) for line in _section(number, control)]
    return "\n".join([HEAD.replace("{checks}", str(checks)), *sections]) + TAIL


def _section(number: int, control: Control) -> Iterator[str]:
    yield f"### {number}. {control.name}\n"
    yield f"{control.why}" + (f" {control.elsewhere}" if control.elsewhere else "") + "\n"
    if control.codes:
        yield "| Check | Binds | Looks at | When it fires |"
        yield "|---|---|---|---|"
        yield from (_check(code) for code in control.codes)
        yield ""
    if control.keys:
        yield f"| Key | {' | '.join(NAMES)} | Means |"
        yield "|---|---|---|---|---|"
        yield from (_key(key) for key in control.keys)
        yield ""


def _check(code: str) -> str:
    if code in BY_CODE:
        watch = BY_CODE[code]
        fires = f"`{code}: observed …, limit …`: {watch.means}"
        return f"| `{code}` | the breaker: {watch.where}, {watch.level} | after the fact | {fires} |"
    return f"| `{code}` | {WHOM[GUARDS[code]]} | {LOOKS_AT[code]} | `{code}: {SAYS[code]}: observed …, limit …` |"


def _key(key: str) -> str:
    values = [_shown(_value(_plan(name), key)) for name in NAMES]
    named = f"`{key}`"
    variable = key.removeprefix("limits.").upper()
    if variable in ENVIRONMENT_NAMES:
        named += f" (`{variable}`)"
    return f"| {named} | {' | '.join(values)} | {_means(key)} |"


def _plan(name: str) -> Plan:
    """A plan with nothing of its own but its profile."""
    limits, controls = profile(name)
    return Plan(name="any", products=("BTC-USD",), strategy=StrategyChoice(name="any"), limits=limits, controls=controls)


def _value(plan: Plan, key: str) -> Any:
    value: Any = plan
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _means(key: str) -> str:
    model: Any = Plan
    *parents, last = key.split(".")
    for part in parents:
        model = model.model_fields[part].annotation
    return str(model.model_fields[last].description or "")


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
