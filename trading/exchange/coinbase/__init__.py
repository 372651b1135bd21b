"""Coinbase Advanced Trade: public market data (`market`) and one account (`account`) through the official SDK."""

from __future__ import annotations

from trading.exchange.coinbase.account import CoinbaseExchange, KeyPermissions
from trading.exchange.coinbase.amending import Preview
from trading.exchange.coinbase.connection import Pace
from trading.exchange.coinbase.market import PAGE, CoinbaseMarket
from trading.exchange.coinbase.pace import RateBudget

__all__ = ["PAGE", "CoinbaseExchange", "CoinbaseMarket", "KeyPermissions", "Pace", "Preview", "RateBudget"]
