"""Tests of the tests: a check, watch or trigger that is broken on purpose is noticed by the cases that are there for it.

Each is replaced by one that never fires and by one that always does; then each of its comparisons is moved by one, each
condition turned round and each `not` left out, one at a time. What no case notices would be a gap in the tables.
"""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from types import FunctionType
from typing import Any

import pytest

from tests.unit import test_breaker, test_checks, test_controls, test_watches
from trading.risk import breaker, watches
from trading.risk.catalogue import ORDER_CONTROLS, PRODUCT_CONTROLS
from trading.risk.checks import ORDER_CHECKS, PRODUCT_CHECKS
from trading.risk.validator import TABLES, Tables, tables_of

CONTROLS: dict[str, Any] = {check.code: check for check in (*PRODUCT_CONTROLS, *ORDER_CONTROLS)}
FIRST = {check.code for check in (*PRODUCT_CHECKS, *ORDER_CHECKS)}


def holds(code: str, tables: Mapping[str, Tables]) -> bool:
    """Does every case of the check come out as it should?"""
    return test_checks.holds(code, tables) if code in FIRST else test_controls.holds(code, tables)


def with_test(code: str, test: Callable[..., Any]) -> dict[str, Tables]:
    """The catalogue with another test in the place of this check's."""
    return tables_of(
        [check._replace(test=test) if check.code == code else check for check in PRODUCT_CONTROLS],
        [check._replace(test=test) if check.code == code else check for check in ORDER_CONTROLS],
    )


# ------------------------------------------------------------------------------------------------------------- checks


@pytest.mark.parametrize("code", CONTROLS)
def test_a_check_that_never_fires_and_one_that_always_does_are_noticed(code: str) -> None:
    assert holds(code, TABLES)
    assert not holds(code, with_test(code, lambda *_: (True, None, None)))
    assert not holds(code, with_test(code, lambda *_: (False, None, None)))


SWAPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What the node may be broken into, each with a word for it."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            broken = copy.deepcopy(node)
            broken.ops[place] = SWAPS[type(operator)]()
            yield ast.unparse(broken), broken
    elif isinstance(node, ast.BoolOp):
        broken_bool = copy.deepcopy(node)
        broken_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.unparse(broken_bool), broken_bool
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield ast.unparse(node.operand), node.operand


class Breaking(ast.NodeTransformer):
    """Puts the change into the place of its node."""

    def __init__(self, target: ast.AST, broken: ast.AST) -> None:
        self.target, self.broken = target, broken

    def visit(self, node: ast.AST) -> ast.AST:
        return self.broken if node is self.target else super().visit(node)


def family(test: FunctionType) -> list[FunctionType]:
    """The test with the helpers of its own file that it calls."""
    found, names = [test], called(test)
    while names:
        other = test.__globals__.get(names.pop())
        if isinstance(other, FunctionType) and other.__module__ == test.__module__ and other not in found:
            found.append(other)
            names |= called(other)
    return found


def called(function: FunctionType) -> set[str]:
    """Names that stand alone in it: an attribute may be called like a function."""
    return {node.id for node in ast.walk(ast.parse(inspect.getsource(function))) if isinstance(node, ast.Name)}


def mutants(test: FunctionType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The test with one thing broken in it or in a helper of it, and what that is."""
    members = family(test)
    for member in members:
        tree = ast.parse(inspect.getsource(member))
        for node in ast.walk(tree):
            for word, broken in changes(node):
                broken_tree = rebuilt(tree, node, broken)
                names = dict(test.__globals__)
                for other in members:
                    text = broken_tree if other is member else ast.parse(inspect.getsource(other))
                    exec(compile(text, "<mutant>", "exec"), names)  # noqa: S102  our own source, broken
                yield f"{member.__name__}: {word}", names[test.__name__]


def rebuilt(tree: ast.Module, node: ast.AST, broken: ast.AST) -> ast.Module:
    place = list(ast.walk(tree)).index(node)
    again = copy.deepcopy(tree)
    Breaking(list(ast.walk(again))[place], broken).visit(again)
    return ast.fix_missing_locations(again)


SAME = {
    # Only what is said of it differs.
    ("product_gated", "not_gated: lane.gated and None"),
    ("asset_frozen", "not_frozen: lane.frozen and None"),
    ("signal", "signal: opinion is not None"),
    ("price_band", "price_band: price <= lane.price_low"),
    # What is not known makes it raise instead, and a check that raises refuses.
    ("price_out_of_range", "price_in_range: lane.quote is None and lane.range_low is None and (lane.range_high is None)"),
    ("spread", "spread: lane.quote is None and lane.quote.mid <= ZERO"),
    ("spread", "spread: lane.quote.mid < ZERO"),
    ("price_off_mean", "near_mean: lane.quote is None and lane.mean_price is None and (lane.mean_price <= ZERO)"),
    ("price_off_mean", "near_mean: lane.mean_price < ZERO"),
    # An order of just the first level's quantity takes that level alone, and has no impact either way.
    ("impact", "impact: request.quantity < quote.asks[0][1]"),
}
"""Changes that change no verdict."""


@pytest.mark.parametrize("code", CONTROLS)
def test_a_check_with_one_thing_broken_is_noticed(code: str) -> None:
    unnoticed = {word for word, test in mutants(CONTROLS[code].test) if holds(code, with_test(code, test))}
    assert unnoticed == {word for same, word in SAME if same == code}


def test_the_breaking_breaks_something_in_every_check_but_one() -> None:
    counts = {code: sum(1 for _ in mutants(check.test)) for code, check in CONTROLS.items()}
    assert sum(counts.values()) > 180
    assert [code for code, count in counts.items() if not count] == ["product_in_plan"], "it compares nothing by itself"


# ---------------------------------------------------------------------------------------------- watches and triggers


@pytest.mark.parametrize("code", watches.BY_CODE)
def test_a_watch_that_is_broken_is_noticed(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert test_watches.holds(code)
    watch = watches.BY_CODE[code]
    always = replace(watch, limit=lambda *_: Decimal(-(10**9)))
    never = replace(watch, limit=lambda *_: None)
    beyond = replace(watch, limit=lambda *_: Decimal(10**9))
    for broken in (never, beyond, always, replace(watch, above=not watch.above)):
        among = tuple(broken if other is watch else other for other in watches.WATCHES)
        monkeypatch.setattr(watches, "WATCHES", among)
        assert not test_watches.holds(code)


@pytest.mark.parametrize("code", sorted(breaker.TRIGGER_CODES))
def test_a_trigger_that_is_broken_is_noticed(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert test_breaker.holds(code)
    (trigger,) = (trigger for trigger in breaker.TRIGGERS if trigger.code == code)
    over, reached = Decimal.__gt__, Decimal.__ge__
    at_its_edge = reached if trigger.trips(Decimal(1), Decimal(2)) or not trigger.trips(Decimal(1), Decimal(1)) else over
    other_level = next(level for level in breaker.Level if level is not trigger.level)
    for broken in (
        trigger._replace(trips=lambda *_: False),
        trigger._replace(trips=lambda *_: True),
        trigger._replace(trips=at_its_edge),
        trigger._replace(limit=lambda *_: None),
        trigger._replace(level=other_level),
    ):
        among = tuple(broken if other is trigger else other for other in breaker.TRIGGERS)
        monkeypatch.setattr(breaker, "TRIGGERS", among)
        assert not test_breaker.holds(code), broken
