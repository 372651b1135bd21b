"""Alerts: incidents leave by Apprise, each once per destination, at most so many messages an hour, to allowed hosts alone.

`KEEL_ALERTS` names the destinations, `KEEL_ALERT_HOSTS` the hosts that mail and webhooks may go to. What was told to whom lies
in `alerts.json` in the state folder: it must work when Postgres does not. A destination that fails is tried again at the next
look, and shows in `keel status`.
"""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from config.credentials import Secret
from config.settings import Settings, private_folder, write_private
from trading.errors import ConfigurationError
from trading.incidents import Incident, Severity, worst_first
from trading.money import parse_stamp, stamp

MESSAGES_PER_HOUR = 10
"""To each destination. What is over it waits, and goes out together with what comes after."""
SHOWN_MAX = 20
"""Incidents told in full by one message; the rest is counted."""
TEXT_MAX = 300
KEPT_MAX = 1000
"""Incidents that are remembered as told."""
LASTING: tuple[str, ...] = ("breaker:", "break:")
"""Keys of incidents that the ledger shows for as long as they last."""

_FIXED_HOSTS = {"slack": "hooks.slack.com", "discord": "discord.com", "tgram": "api.telegram.org"}
"""Services whose host the plug-in knows: allowed without being listed."""
_NAMED_HOSTS = ("mailto", "mailtos", "json", "jsons")
_FLOORS = {severity.word: severity for severity in Severity}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where alerts go: from which severity on, and how to name it without its secrets."""

    url: Secret
    floor: Severity
    name: str

    @property
    def id(self) -> str:
        return sha256(self.url.reveal().encode()).hexdigest()[:12]


class Failure(NamedTuple):
    """A destination that could not be told, since when, and why."""

    destination: str
    since: str
    why: str


Send = Callable[[Destination, str, str], str]
"""Delivers title and text; returns why it could not, or nothing."""


def destinations(settings: Settings) -> list[Destination]:
    """Of `KEEL_ALERTS`: `URL` or `FLOOR=URL`, with spaces between. Raises ConfigurationError that shows no secret."""
    found, problems = [], []
    allowed = set(settings.alert_hosts.replace(",", " ").split())
    for number, entry in enumerate(settings.alerts.get_secret_value().split(), 1):
        word, _, rest = entry.partition("=")
        floor, url = (_FLOORS[word], rest) if word in _FLOORS else (Severity.WARNING, entry)
        scheme, host = _goes_to(url)
        if scheme in _FIXED_HOSTS or (scheme in _NAMED_HOSTS and host in allowed):
            found.append(Destination(url=Secret(url), floor=floor, name=f"{scheme}://{_FIXED_HOSTS.get(scheme, host)}"))
        elif scheme in _NAMED_HOSTS:
            problems.append(f"KEEL_ALERTS, entry {number}: found host {host!r}, expected one that KEEL_ALERT_HOSTS lists")
        else:
            known = ", ".join((*_FIXED_HOSTS, *_NAMED_HOSTS))
            problems.append(
                f"KEEL_ALERTS, entry {number}: found {scheme!r}, expected [info=|warning=|critical=] and one of {known}"
            )
    if problems:
        raise ConfigurationError(problems)
    return found


def _goes_to(url: str) -> tuple[str, str]:
    """Scheme and the host that would be connected to; a mail's may be named apart from its address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "", ""
    named = parse_qs(parts.query).get("smtp", []) if parts.scheme.startswith("mailto") else []
    return parts.scheme, (named[-1] if named else host).lower()


class Alerts:
    """Tells incidents to the destinations, and keeps what was told."""

    def __init__(self, settings: Settings, send: Send | None = None) -> None:
        self.places = destinations(settings)
        self._file = settings.home / "alerts.json"
        self._home = settings.home
        self._send = send or deliver

    def tell(self, found: Sequence[Incident], now: datetime, lasting: tuple[str, ...] = LASTING) -> list[Failure]:
        """Tells what is new; returns the destinations that fail now.

        `lasting` are the kinds of incident of which these are all: others of them are over, and would be news again. Never raises
        for a failed delivery. Costs a file when nothing is new.
        """
        with self._locked() as state:
            keys = {incident.key for incident in found}
            kept = [(key, whom) for key, whom in state["told"].items() if key in keys or not key.startswith(lasting)]
            state["told"] = dict(kept[-KEPT_MAX:])
            for place in self.places:
                self._tell_one(state, place, found, now)
            known = {place.id for place in self.places}
            state["failures"] = {id_: row for id_, row in state["failures"].items() if id_ in known}
            return [Failure(**row) for row in state["failures"].values()]

    def _tell_one(self, state: dict[str, Any], place: Destination, found: Sequence[Incident], now: datetime) -> None:
        news = worst_first(
            incident
            for incident in found
            if incident.severity >= place.floor and place.id not in state["told"].get(incident.key, [])
        )
        sent = [at for at in state["sent"].get(place.id, []) if now - parse_stamp(at) < timedelta(hours=1)]
        if not news or len(sent) >= MESSAGES_PER_HOUR:
            state["sent"][place.id] = sent
            return
        why = self._send(place, title_of(news), text_of(news))
        state["sent"][place.id] = [*sent, stamp(now)]
        if why:
            since = state["failures"].get(place.id, {}).get("since", stamp(now))
            state["failures"][place.id] = {"destination": place.name, "since": since, "why": clean(why)[:TEXT_MAX]}
            return
        state["failures"].pop(place.id, None)
        for incident in news:
            state["told"].setdefault(incident.key, []).append(place.id)

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        """The state, for one process at a time; written back whole at the end."""
        private_folder(self._home)
        with (self._home / "alerts.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = read_state(self._file)
            yield state
            write_private(self._file, json.dumps(state, indent=1))


def failures(settings: Settings) -> list[Failure]:
    """The destinations that could not be told when they were last tried."""
    return [Failure(**row) for row in read_state(settings.home / "alerts.json")["failures"].values()]


def read_state(file: Path) -> dict[str, Any]:
    """What was told; nothing where the file is missing or damaged: then everything is told once more."""
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        return {name: dict(state[name]) for name in ("told", "sent", "failures")}
    except (OSError, ValueError, KeyError, TypeError):
        return {"told": {}, "sent": {}, "failures": {}}


def title_of(news: Sequence[Incident]) -> str:
    more = f" (and {len(news) - 1} more)" if len(news) > 1 else ""
    return clean(f"Tradekeel {news[0].severity.word}: {news[0].title}{more}")[:TEXT_MAX]


def text_of(news: Sequence[Incident]) -> str:
    told = "\n\n".join(incident.to_text() for incident in news[:SHOWN_MAX])
    rest = f"\n\n... and {len(news) - SHOWN_MAX} more: keel status" if len(news) > SHOWN_MAX else ""
    return clean(told + rest)


_SECRETS = (
    re.compile(r"-----BEGIN [^-]*PRIVATE KEY-----.*?(-----END [^-]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"),  # a signed token
    re.compile(r"organizations/[^/\s]+/apiKeys/\S+"),
    re.compile(r"(?<=://)[^/\s@]+(?=@)"),  # who logs in, and with what
    re.compile(r"(?i)\b(password|passphrase|secret|token|api[_-]?key)\b(\s*[=:]\s*)\S+"),
)


def clean(text: str) -> str:
    """The text without anything that looks like a key, a token or a password."""
    for pattern in _SECRETS:
        text = pattern.sub("<hidden>", text)
    return text


def deliver(place: Destination, title: str, text: str) -> str:
    """By Apprise. Why it failed is told without the URL's own words."""
    import apprise  # noqa: PLC0415 - a second that only an alert needs

    service = apprise.Apprise()
    if not service.add(place.url.reveal()):
        return "Apprise does not understand this URL"
    with apprise.LogCapture(level=apprise.logging.WARNING) as said:  # type: ignore[no-untyped-call]
        if service.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT):
            return ""
        lines = said.getvalue().strip().splitlines()
    return _without(place.url.reveal(), lines[-1]) if lines else "not delivered"


def _without(url: str, said: str) -> str:
    for part in re.split(r"[^\w.-]+", url):
        if len(part) > 5:  # shorter ones are words
            said = said.replace(part, "<hidden>")
    return said
