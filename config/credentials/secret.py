"""A text that shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

import hmac
import resource
from collections.abc import Callable
from typing import Any, NoReturn, final

_HIDDEN = "<hidden>"


@final
class Secret:
    """Holds a text; only `reveal()` gives it back. Every other way to print, copy, hash or save it shows nothing or raises.

    The text lives in a closure, not in an attribute: neither `vars()`, nor a debugger's list of fields, nor a traceback
    that prints the local variables meets it. Keep the `Secret` in a variable, and `reveal()` in the call that needs it.
    """

    __slots__ = ("reveal",)

    reveal: Callable[[], str]
    """The text. Hand it on at once; never keep it in a variable, a log or a message."""

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "reveal", lambda: text)

    def __repr__(self) -> str:
        return _HIDDEN

    def __str__(self) -> str:
        return _HIDDEN

    def __format__(self, _spec: str) -> str:
        return _HIDDEN

    def __eq__(self, other: object) -> bool:
        """Takes as long for a near miss as for a far one; never equal to a plain text."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    def __hash__(self) -> NoReturn:  # a hash could be tried against guesses
        raise TypeError("a secret has no hash")

    def __setattr__(self, name: str, _value: object) -> NoReturn:
        raise AttributeError(f"{name}: a secret does not change")

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")

    def __getstate__(self) -> Any:
        raise TypeError("a secret has no state to show")


def forbid_core_dumps() -> None:
    """A crash of this process writes no memory to disk from now on."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
