"""The signed connection to Coinbase: the SDK's session and signature, within a budget, every reply as it came."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trading.errors import ConfigurationError, Unanswered
from trading.exchange.coinbase.pace import RETRY_AFTER_MOST, SHOWN, RateBudget, told, worth_retrying_signed
from trading.exchange.coinbase.replies import read_object
from trading.orders import Mode

if TYPE_CHECKING:
    import requests
    from coinbase.rest import RESTClient

    from trading.exchange.coinbase.guard import GuardedAdapter

HOST = "api.coinbase.com"
ROOT = "/api/v3/brokerage"
_REDIRECT = 300


class Hidden(Protocol):
    """A text that only `reveal()` gives."""

    @property
    def reveal(self) -> Callable[[], str]: ...


class SigningKey(Protocol):
    """A key pair of the Coinbase Developer Platform, checked."""

    @property
    def name(self) -> Hidden: ...

    @property
    def private(self) -> Hidden: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The client's own limits: a third of the venue's for private calls, half for public ones."""

    private_per_second: float = 10
    public_per_second: float = 5
    cancel_reserve: int = 2
    """Calls that only cancels may use: an account that is being scanned can still be cleared at once."""
    attempts: int = 4
    """Of a read, the first included. A send is never repeated here."""
    patience_seconds: float = 30
    backoff_seconds: float = 0.25


def check_host(host: str, mode: Mode) -> None:
    """Raises ConfigurationError unless the mode may talk to the host: live to Coinbase alone, rehearsal to loopback alone."""
    if mode is Mode.LIVE and host != HOST:
        raise ConfigurationError(f"coinbase: live: found host {host!r}, expected {HOST}")
    if mode is Mode.REHEARSAL and not _is_loopback(host):
        raise ConfigurationError(f"coinbase: rehearsal: found host {host!r}, expected one on loopback, as 127.0.0.1:8443")
    if mode is Mode.PAPER:
        raise ConfigurationError("coinbase: found mode paper, expected live or rehearsal: paper has an exchange of its own")


def _is_loopback(host: str) -> bool:
    name, _, port = host.rpartition(":")
    try:
        return port.isdigit() and (name == "localhost" or ip_address(name.strip("[]")).is_loopback)
    except ValueError:
        return False


class Connection:
    """One key's connection to one host. One per thread: the HTTP session inside is not thread-safe."""

    def __init__(
        self,
        key: SigningKey,
        *,
        host: str,
        ca_file: Path | None,
        timeout: tuple[float, float],
        pace: Pace,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        if ca_file is not None and not ca_file.is_file():
            raise ConfigurationError(f"coinbase: CA file {ca_file} is missing")
        self._key, self._host, self._ca_file, self._timeout = key, host, ca_file, timeout
        self._pace = pace
        self._private = RateBudget(pace.private_per_second, _burst(pace.private_per_second), monotonic, sleep)
        self._public = RateBudget(pace.public_per_second, _burst(pace.public_per_second), monotonic, sleep)
        self._opened: tuple[RESTClient, GuardedAdapter] | None = None
        self._halted: Callable[[], str] = str

    def read(self, path: str, params: Mapping[str, Any] | None = None, *, public: bool = False) -> dict[str, Any]:
        """The object at `path`, numbers as Decimals. Raises Unanswered when no attempt brings one."""
        import requests  # noqa: PLC0415 - the command line starts without it
        import stamina  # noqa: PLC0415

        pace = self._pace
        try:
            for attempt in stamina.retry_context(
                on=worth_retrying_signed, attempts=pace.attempts, timeout=pace.patience_seconds,
                wait_initial=pace.backoff_seconds, wait_max=RETRY_AFTER_MOST, wait_jitter=4 * pace.backoff_seconds,
            ):  # fmt: skip
                with attempt:
                    if public:
                        self._public.take()
                    else:
                        self._private.take(pace.cancel_reserve)
                    body = _object(self._request("GET", path, params=dict(params or {})))
        except requests.RequestException as error:
            raise Unanswered(f"coinbase: GET {ROOT}{path}: {told(error)}") from error
        return body

    def obey(self, halted: Callable[[], str]) -> None:
        """While it says why, nothing but cancels is sent; it is asked as the bytes leave."""
        self._halted = halted
        if self._opened is not None:
            self._opened[1].halted = halted

    def may_trade_next(self, *, cancels: bool = False) -> None:
        """Waits for the budget of one send."""
        self._private.take(0 if cancels else self._pace.cancel_reserve)

    def send(self, path: str, body: str, digest: str) -> tuple[int, bytes]:
        """Status and content of the reply to exactly these bytes, sent once.

        Raises NotSent, before a byte leaves, when the body does not have this SHA-256 on the wire; and what
        requests raises where no reply was read whole.
        """
        self._open()[1].pledge(digest)
        reply = self._request("POST", path, data=body.encode())
        return reply.status_code, reply.content

    def _request(self, method: str, path: str, **what: Any) -> requests.Response:
        client, _ = self._open()
        # A signature of its own for each: it lives 120 seconds and names method, host and path.
        headers = client.set_headers(method, f"{ROOT}{path}")
        url = f"https://{self._host}{ROOT}{path}"
        reply: requests.Response = client.session.request(method, url, headers=headers, allow_redirects=False, **what)
        return reply

    def _open(self) -> tuple[RESTClient, GuardedAdapter]:
        if self._opened is None:
            import certifi  # noqa: PLC0415 - as in `read`
            from coinbase.rest import RESTClient  # noqa: PLC0415 - it reads keys from the environment at import

            from trading.exchange.coinbase.guard import GuardedAdapter  # noqa: PLC0415 - imports requests

            logging.getLogger("coinbase.RESTClient").setLevel(logging.CRITICAL)
            client = RESTClient(
                api_key=self._key.name.reveal(), api_secret=self._key.private.reveal(), base_url=self._host,
                timeout=self._timeout,
            )  # fmt: skip
            client.session.trust_env = False  # no proxies, CA bundles or .netrc from the environment
            guard = GuardedAdapter(self._host, self._ca_file or Path(certifi.where()), self._timeout)
            guard.halted = self._halted
            for scheme in ("https://", "http://"):
                client.session.mount(scheme, guard)
            self._opened = client, guard
        return self._opened


def _burst(per_second: float) -> int:
    return max(1, int(per_second))


def _object(reply: requests.Response) -> dict[str, Any]:
    """The reply's object. Raises HTTPError for a status that is none of success, JSONDecodeError for another body."""
    import requests  # noqa: PLC0415

    if reply.status_code >= _REDIRECT:
        raise requests.HTTPError(f"status {reply.status_code}", response=reply)
    body = read_object(reply.content)
    if body is None:
        raise requests.JSONDecodeError(f"found {reply.content[:SHOWN]!r}, expected a JSON object", "", 0)
    return body
