"""How often the venue may be asked, and which failed read is worth asking again."""

from __future__ import annotations

import re
from collections.abc import Callable

# A longer Retry-After than this is not waited for: the run fails and the next one comes soon enough.
RETRY_AFTER_MOST = 5.0
SHOWN = 200  # characters of a reply that an error message shows
_UNAUTHORISED, _TOO_MANY, _SERVER_ERROR = 401, 429, 500


class RateBudget:
    """Lets at most `burst` calls through at once and `per_second` in the long run; `take` waits for its turn."""

    def __init__(self, per_second: float, burst: int, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._per_second, self._burst = per_second, float(burst)
        self._monotonic, self._sleep = monotonic, sleep
        self._tokens, self._at = float(burst), monotonic()

    def take(self, reserve: int = 0) -> None:
        """One call; waits until `reserve` more would be left for those that may not wait (cancels)."""
        self._refill()
        if self._tokens < 1 + reserve:
            self._sleep((1 + reserve - self._tokens) / self._per_second)
            self._refill()
        # A sleep that ends a little early leaves a small debt, which the next call pays.
        self._tokens -= 1

    def _refill(self) -> None:
        at = self._monotonic()
        self._tokens = min(self._burst, self._tokens + (at - self._at) * self._per_second)
        self._at = at


def worth_retrying(error: Exception) -> bool | float:
    """Whether the same read may succeed later; a number is the seconds that the venue asks to wait."""
    import requests  # noqa: PLC0415 - the command line starts without it

    if isinstance(error, requests.exceptions.SSLError):
        return False  # a wrong certificate stays wrong
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        if status == _TOO_MANY and (wait := _retry_after(error.response.headers.get("retry-after", ""))) is not None:
            return wait if wait <= RETRY_AFTER_MOST else False
        return status == _TOO_MANY or status >= _SERVER_ERROR
    return isinstance(
        error,
        requests.ConnectionError | requests.Timeout | requests.JSONDecodeError | requests.exceptions.ChunkedEncodingError,
    )


def worth_retrying_signed(error: Exception) -> bool | float:
    """As `worth_retrying`, and a 401 too: the venue's come and go, and the next attempt carries a new signature."""
    response = getattr(error, "response", None)
    return (response is not None and response.status_code == _UNAUTHORISED) or worth_retrying(error)


def _retry_after(header: str) -> float | None:
    return float(header) if re.fullmatch(r"\d+(\.\d+)?", header) else None


def told(error: Exception) -> str:
    """What came back, or which way the call broke: for a message."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"status {response.status_code}, reply {response.text[:SHOWN]!r}"
    return f"{type(error).__name__}: {str(error)[-SHOWN:]}"  # the cause stands at the end
