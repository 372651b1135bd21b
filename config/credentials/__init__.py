"""API keys and the switches between paper and live: where they are found, and what is wrong with them.

Order of precedence: environment, `config/api-keys/.env.coinbase`, encrypted file, system keychain.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from config.credentials.keys import CoinbaseKey, coinbase_key
from config.credentials.places import PLAIN, TRADE, VIEW, Places, places
from config.credentials.secret import Secret, forbid_core_dumps
from config.credentials.switches import Switches, read_switches, unset_limits
from config.plans import SourcedLimit, sourced_limits
from config.settings import load
from trading.errors import ConfigurationError

__all__ = ["CoinbaseKey", "CredentialsManager", "FoundKey", "Places", "Secret", "Switches", "get_credentials_manager"]


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key with the place that it was found in."""

    key: CoinbaseKey
    where: str


@dataclass(frozen=True, slots=True)
class CredentialsManager:
    """Reads at every call, so that it never acts on a switch or key that was changed since."""

    places: Places

    def is_paper_trading(self) -> bool:
        """True unless every switch says live and nothing contradicts it."""
        return not self.switches().live

    def switches(self) -> Switches:
        """The safety switches as they stand, with their conflicts."""
        return read_switches(self.places)

    def get_coinbase_credentials(self) -> CoinbaseKey:
        """The key that may trade. Raises ConfigurationError with what is missing or wrong, and where it was looked for."""
        return self.find(TRADE).key

    def get_coinbase_view_credentials(self) -> CoinbaseKey:
        """The key that may only look; never the trade key in its stead. Raises as `get_coinbase_credentials`."""
        return self.find(VIEW).key

    def unset_limits(self) -> list[str]:
        """The risk limits that nobody set, by variable."""
        return unset_limits(self.places)

    def find(self, names: tuple[str, str]) -> FoundKey:
        """The pair of these names from the first place that has either of them."""
        forbid_core_dumps()
        looked = []
        for where, found in self.places.secrets():
            looked.append(where)
            missing = [name for name in names if name not in found]
            if len(missing) == 1:
                raise ConfigurationError(
                    f"{missing[0]}: found nothing in {where}, which has the other half, expected both in one"
                )
            if not missing:
                return FoundKey(coinbase_key(found[names[0]], found[names[1]], where), where)
        raise ConfigurationError(f"{' and '.join(names)}: found nowhere, looked in {', '.join(looked)} (keel credentials set)")

    def validate_live_trading_safety(self) -> tuple[bool, list[str]]:
        """Whether switches, keys and limits allow live trading, with one warning for each failed condition."""
        switches = self.switches()
        warnings = [*switches.missing(), *switches.conflicts]
        warnings += [f"{name}: not set, expected a limit of your own for live trading" for name in unset_limits(self.places)]
        fingerprints = set()
        for names in (TRADE, VIEW):
            try:
                fingerprints.add(self.find(names).key.fingerprint)
            except ConfigurationError as error:
                warnings.append("; ".join(error.problems))
                fingerprints.add(names[0])
        if len(fingerprints) == 1:
            warnings.append(f"{VIEW[0]}: found the trade key, expected a key of its own that may only view")
        return not warnings, warnings

    def get_risk_limits(self, profile: str = "moderate") -> dict[str, SourcedLimit]:
        """Each limit by variable, with its source: environment, file or profile."""
        limits = sourced_limits(profile, self.environment())
        return {
            name: SourcedLimit(limit.value, next((where for where, _ in self.places.plain(name)), limit.source))
            for name, limit in limits.items()
        }

    def environment(self) -> Mapping[str, str]:
        """The plain settings of all places, the first one counting: what `config.plans` takes as its environment."""
        return {name: found[0][1] for name in PLAIN if (found := self.places.plain(name))}


def get_credentials_manager() -> CredentialsManager:
    """The manager over this process's environment and files."""
    return CredentialsManager(places(os.environ, load().home))
