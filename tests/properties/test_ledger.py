"""Books under random fills: they balance, cost is conserved, and a second way of counting agrees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from trading.ledger import book_fill, unbalanced
from trading.lots import Lots
from trading.orders import Fill, Side

START = datetime(2026, 1, 1, tzinfo=UTC)
quantities = st.decimals("0.00000001", "1000", places=8)
prices = st.decimals("0.01", "100000", places=2)
fees = st.decimals("-1", "50", places=16)
steps = st.lists(st.tuples(quantities, prices, fees, st.floats(0, 1), st.sampled_from(["USD", "BTC", "BNB"])), max_size=30)


def trades(moves: list[tuple[Decimal, Decimal, Decimal, float, str]]) -> list[Fill]:
    """Buys, and sells of a part of what is held: what a venue could really report."""
    held, found = Decimal(0), []
    for number, (quantity, price, fee, part, fee_asset) in enumerate(moves):
        sells = part > 0.5 and held > 0
        size = min(quantity, held) if sells else quantity
        paid = fee if fee_asset == "USD" else min(abs(fee), (held if sells else held + size) / 1000).quantize(Decimal("1e-16"))
        if sells:
            paid = min(paid, held - size) if fee_asset == "BTC" else paid
        found.append(
            Fill(entry_id=f"e{number}", trade_id="t", exchange_order_id="x", client_order_id=None, product="BTC-USD",
                 side=Side.SELL if sells else Side.BUY, quantity=size, price=price, fee=paid, fee_asset=fee_asset,
                 liquidity="taker", traded_at=START + timedelta(seconds=number))
        )  # fmt: skip
        held += (-size if sells else size) - (paid if fee_asset == "BTC" else 0)
    return found


@given(steps)
def test_every_entry_balances_and_the_trading_accounts_equal_the_lots(
    moves: list[tuple[Decimal, Decimal, Decimal, float, str]],
) -> None:
    lots, balances = Lots(), {}
    for fill in trades(moves):
        booking = book_fill(lots, fill, "paper:main", "default")
        assert not unbalanced(booking.transaction)
        for account, amount in booking.transaction.postings:
            balances[account.kind, account.asset] = balances.get((account.kind, account.asset), 0) + amount
        assert balances.get(("trading", "USD"), 0) == lots.cost == sum(lot.cost for lot in lots.lots)
        assert balances.get(("trading", "BTC"), 0) == -lots.quantity == -sum(lot.quantity for lot in lots.lots)


@given(steps)
def test_cash_equals_a_plain_sum_over_the_fills(moves: list[tuple[Decimal, Decimal, Decimal, float, str]]) -> None:
    lots, cash, fills = Lots(), Decimal(0), trades(moves)
    for fill in fills:
        for account, amount in book_fill(lots, fill, "paper:main", "default").transaction.postings:
            cash += amount if (account.kind, account.asset) == ("venue", "USD") else 0
    plain = sum(
        (-fill.side.sign * fill.quantity * fill.price - (fill.fee if fill.fee_asset == "USD" else 0) for fill in fills),
        Decimal(0),
    )
    assert cash == plain


@given(steps)
def test_realised_profit_is_what_came_in_minus_what_it_had_cost(
    moves: list[tuple[Decimal, Decimal, Decimal, float, str]],
) -> None:
    lots, realised, bought, sold, paid_in_base = Lots(), Decimal(0), Decimal(0), Decimal(0), Decimal(0)
    for fill in trades(moves):
        booking = book_fill(lots, fill, "paper:main", "default")
        realised += booking.realised
        bought += fill.notional if fill.side is Side.BUY else 0
        sold += fill.notional if fill.side is Side.SELL else 0
        paid_in_base += sum(
            (amount for account, amount in booking.transaction.postings
             if account.kind == "fees" and account.asset == "USD" and fill.fee_asset == "BTC"), Decimal(0))  # fmt: skip
    assert realised == sold - (bought - lots.cost - paid_in_base)
