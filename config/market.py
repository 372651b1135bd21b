"""Which market the prices come from: chosen by a setting, or once for a state directory, and opened here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import NamedTemporaryFile

from trading.errors import ConfigurationError
from trading.market import MarketSource

SPELLINGS = "coinbase, replay:PATH or synthetic"
# The probe at the first start: a person waits for it.
_PROBE_TIMEOUT = (2.0, 3.0)
_REPLAY = "replay:"


def choose_market(setting: str | None, home: Path, probe: Callable[[], bool]) -> str:
    """`coinbase`, `synthetic` or `replay:/absolute/path`: the setting if there is one, else what this home chose before.

    A home without a choice makes one: coinbase if `probe` says that it answers, else synthetic. That is written to
    `home/market` and never changes by itself: an unreachable venue is a failed fetch later, not another market.
    Raises ConfigurationError for a setting or a file that is none of the three.
    """
    if setting is not None and setting.strip():
        return _canonical(setting.strip(), "KEEL_MARKET")
    file = home / "market"
    if not file.exists():
        _store_once(file, "coinbase" if probe() else "synthetic")
    return _canonical(file.read_text(encoding="utf-8").strip(), str(file))


def second_market(setting: str | None, first: str) -> str | None:
    """Name of the source that prices are compared with, spelled like the first one's; None where none is set.

    Raises ConfigurationError for one that proves nothing: the first once more, or a recording beside a market of today.
    """
    if setting is None or not setting.strip():
        return None
    second = _canonical(setting.strip(), "KEEL_SECOND_MARKET")
    if second == first or second.startswith(_REPLAY) != first.startswith(_REPLAY):
        raise ConfigurationError(
            f"KEEL_SECOND_MARKET: found {second} beside {first}, expected another source of prices of the same time"
        )
    return second


def open_market(
    name: str,
    *,
    spread: Decimal,
    host: str = "api.coinbase.com",
    ca_file: Path | None = None,
    timeout_seconds: float = 10.0,
    requests_per_second: float = 5.0,
    seed: int = 7,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> MarketSource:
    """The source of that name. `spread` is the plan's full bid-ask spread, for the sources that record no quotes.

    Each source is imported only when it is the one.
    """
    kind, _, path = _canonical(name, "market").partition(":")
    if kind == "replay":
        from trading.feeds.replay import Replay  # noqa: PLC0415

        return Replay(Path(path), spread)
    if kind == "synthetic":
        from trading.feeds.synthetic import Synthetic  # noqa: PLC0415

        return Synthetic(seed, clock, spread)
    from trading.exchange.coinbase import CoinbaseMarket  # noqa: PLC0415

    return CoinbaseMarket(
        clock=clock, monotonic=time.monotonic, sleep=time.sleep, base_url=host, ca_file=ca_file,
        timeout=(min(3.05, timeout_seconds), timeout_seconds), requests_per_second=requests_per_second,
    )  # fmt: skip


def coinbase_answers(host: str = "api.coinbase.com", ca_file: Path | None = None) -> bool:
    """Whether Coinbase's public interface answers one request within five seconds: the probe of the first start."""
    from trading.exchange.coinbase import CoinbaseMarket  # noqa: PLC0415

    return CoinbaseMarket(
        clock=lambda: datetime.now(UTC), monotonic=time.monotonic, sleep=time.sleep, base_url=host, ca_file=ca_file,
        timeout=_PROBE_TIMEOUT,
    ).answers()  # fmt: skip


def _canonical(name: str, where: str) -> str:
    if name in ("coinbase", "synthetic"):
        return name
    path = name.removeprefix(_REPLAY).strip()
    if not name.startswith(_REPLAY) or not path:
        raise ConfigurationError(f"{where}: found {name!r}, expected {SPELLINGS}")
    # Absolute, because the portfolio keeps this name and the next start may be made from another folder.
    return f"{_REPLAY}{Path(path).expanduser().resolve()}"


def _store_once(file: Path, choice: str) -> None:
    """Writes the choice, whole and private, unless another start has just made one: the first wins."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, prefix=".market-") as whole:  # made with mode 0600
        whole.write(f"{choice}\n")
        whole.flush()
        os.fsync(whole.fileno())
        try:
            os.link(whole.name, file)
        except FileExistsError:
            return
