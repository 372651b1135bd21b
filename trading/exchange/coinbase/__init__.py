"""Coinbase Advanced Trade: public market data (`market`) and one account (`account`) through the official SDK."""

from __future__ import annotations

from trading.exchange.coinbase.market import PAGE, CoinbaseMarket
from trading.exchange.coinbase.pace import RateBudget

__all__ = ["PAGE", "CoinbaseMarket", "RateBudget"]
