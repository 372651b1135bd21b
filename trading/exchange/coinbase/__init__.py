"""Coinbase Advanced Trade: public market data (`market`) and one account (`account`) through the SDK; the library's face."""

from __future__ import annotations

from trading.exchange.coinbase.account import CoinbaseExchange, KeyPermissions
from trading.exchange.coinbase.amending import Preview
from trading.exchange.coinbase.client import AccountOrder, AccountPortfolio, CoinbaseRestClient, Holding
from trading.exchange.coinbase.connection import Pace
from trading.exchange.coinbase.market import PAGE, CoinbaseMarket
from trading.exchange.coinbase.pace import RateBudget

__all__ = [
    "PAGE",
    "AccountOrder",
    "AccountPortfolio",
    "CoinbaseExchange",
    "CoinbaseMarket",
    "CoinbaseRestClient",
    "Holding",
    "KeyPermissions",
    "Pace",
    "Preview",
    "RateBudget",
]
