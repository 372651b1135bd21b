"""The switches between paper and live. Whatever is unset, unreadable or contradictory means paper."""

from __future__ import annotations

from dataclasses import dataclass

from config.credentials.places import PLAIN, Places
from config.plans import ENVIRONMENT_NAMES

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """As they stand. `conflicts` lists what two places say differently, what contradicts itself, and what cannot be read."""

    paper_trading: bool
    live_trading_enabled: bool
    environment: str
    conflicts: tuple[str, ...]

    @property
    def live(self) -> bool:
        """True only if every switch says live and nothing contradicts it."""
        return not (self.missing() or self.conflicts)

    def missing(self) -> list[str]:
        """The switches that do not say live, one sentence each."""
        wanted = (
            (not self.paper_trading, "PAPER_TRADING: found true or unset, expected false"),
            (self.live_trading_enabled, "LIVE_TRADING_ENABLED: found false or unset, expected true"),
            (self.environment == "production", "ENVIRONMENT: found another word or unset, expected production"),
        )
        return [problem for holds, problem in wanted if not holds]


def read_switches(places: Places) -> Switches:
    """The switches of environment and `.env.coinbase`; the first place counts, a second that differs is a conflict."""
    conflicts = [problem for name in PLAIN if (problem := _disagreement(places, name))]
    paper = _flag(places, "PAPER_TRADING", conflicts, default=True)
    enabled = _flag(places, "LIVE_TRADING_ENABLED", conflicts, default=False)
    environment = next((text.lower() for _, text in places.plain("ENVIRONMENT")), "development")
    if paper and enabled:
        conflicts.append("PAPER_TRADING and LIVE_TRADING_ENABLED: found paper and live at once, expected one of them")
    if enabled and environment != "production":
        conflicts.append("LIVE_TRADING_ENABLED: found true outside of production, expected ENVIRONMENT=production with it")
    return Switches(paper_trading=paper, live_trading_enabled=enabled, environment=environment, conflicts=tuple(conflicts))


def unset_limits(places: Places) -> list[str]:
    """The risk limits that nobody set, by variable: a profile's value is no decision about real money."""
    return [name for name in ENVIRONMENT_NAMES if not places.plain(name)]


def _disagreement(places: Places, name: str) -> str | None:
    found = places.plain(name)
    if len({_WORDS.get(text.lower(), text.lower()) for _, text in found}) < 2:
        return None
    return f"{name}: found different values in {' and '.join(where for where, _ in found)}, expected the same or one"


def _flag(places: Places, name: str, conflicts: list[str], *, default: bool) -> bool:
    where, text = next(iter(places.plain(name)), ("", ""))
    if not text:
        return default
    if text.lower() not in _WORDS:
        conflicts.append(f"{where}: found a word that is neither, expected true or false")
        return default
    return _WORDS[text.lower()]
