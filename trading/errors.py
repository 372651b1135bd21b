"""Every error Tradekeel raises. Raise the class whose reaction you want; the message says what to do.

    KeelError
    ├── ConfigurationError   nothing starts: a person corrects a setting, plan or file     (exit 2)
    │   └── NotSent          our own last look refused what was about to leave: no byte has left
    ├── Halted               the halt file stopped a send: no byte has left               (the order is abandoned)
    ├── LedgerUnavailable    the database cannot be reached or started                     (exit 1)
    ├── BooksRefused         the ledger refused a change: it would break a rule            (exit 1, stop)
    ├── NotAllowed           the database role may not do this                             (exit 1, stop)
    ├── Stale                what we acted on has changed under us: reload and try again
    ├── Fenced               a later run has taken over: stop at once, send nothing
    ├── AnchorFailed         the chain's head could not be signed and written down outside
    ├── Busy                 another process works on the same slot or portfolio
    ├── MarketUnavailable    prices could not be fetched: safe to retry
    └── ExchangeError        the exchange could not be asked
        ├── Unanswered       a read failed: safe to retry
        └── OutcomeUnknown   a send may or may not have arrived: the order is in doubt, never retried

An expected "no" (a refused request, a rejected order, a skipped slot) is a value with a code, not an error.
"""

from __future__ import annotations


class KeelError(Exception):
    """Base of all errors; `code` is stable and printed by the command line."""

    code = "error"


class ConfigurationError(KeelError):
    """A setting, plan or file is wrong; `problems` lists every one of them."""

    code = "configuration"

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class NotSent(ConfigurationError):
    """A bug or tampering: the order is dead, and nothing is sent any more until a person has looked."""

    code = "not_sent"


class Halted(KeelError):
    code = "halted"


class LedgerUnavailable(KeelError):
    code = "ledger_unavailable"


class BooksRefused(KeelError):
    code = "books_refused"


class NotAllowed(KeelError):
    code = "not_allowed"


class Stale(KeelError):
    code = "stale"


class Fenced(KeelError):
    code = "fenced"


class AnchorFailed(KeelError):
    code = "anchor_failed"


class Busy(KeelError):
    code = "busy"


class MarketUnavailable(KeelError):
    code = "market_unavailable"


class ExchangeError(KeelError):
    code = "exchange"


class Unanswered(ExchangeError):
    code = "unanswered"


class OutcomeUnknown(ExchangeError):
    code = "outcome_unknown"
