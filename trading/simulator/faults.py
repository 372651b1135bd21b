"""What can be told to go wrong: a queue of faults, each for an endpoint and a number of calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trading.errors import ConfigurationError

HTML = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"

BEFORE = {
    "drop": "the connection is cut before the venue has read the request",
    "error_500": "an INTERNAL error, nothing was done",
    "html_502": "a gateway's page, nothing was done",
    "rate_limited": "429; `headers` true sends x-ratelimit-*, `text` true a plain text body",
    "unauthorized": "401, as for a bad signature",
    "forbidden": "403, missing scopes",
    "not_found": "404",
    "refuse": "a create is refused with HTTP 200 and `reason`",
}
AFTER = {
    "accept_then_drop": "done, but the connection is cut without an answer",
    "accept_then_500": "done, but answered with an INTERNAL error",
    "accept_then_502": "done, but answered with a gateway's page",
    "accept_then_429": "done, but answered with 429",
    "accept_then_kill": "done and committed, then the venue's process kills itself with SIGKILL",
    "truncated_json": "done; the answer's text breaks off half way",
    "half_closed": "done; the connection is cut half way through the answer",
    "null_configuration": "done; a create's answer has order_configuration null",
}
EITHER = {
    "delay": "`seconds` before the answer; with `before` true before the venue acts",
    "hide_order": "a create's order is not to be found for `seconds`",
}
SOCKET = {
    "ws_close": "connections are closed with `code`; with `abort` true cut without a close",
    "ws_drop": "the next `count` messages of `channel` are not sent, their sequence numbers are used up",
    "ws_duplicate": "the next `count` messages of `channel` are sent twice",
    "ws_out_of_order": "the next `count` messages of `channel` are sent after the one that follows them",
    "ws_silence": "nothing is sent for `seconds`, heartbeats included",
}
KINDS = BEFORE | AFTER | EITHER | SOCKET


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault: which endpoint (`*` for all), what, and how many calls it still concerns after it let `skip` pass."""

    kind: str
    endpoint: str = "*"
    count: int = 1
    skip: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        return {"kind": self.kind, "endpoint": self.endpoint, "count": self.count, "skip": self.skip, **self.details}


class Faults:
    """Faults in the order in which they were asked for. They are gone after a restart; what they did is not."""

    def __init__(self) -> None:
        self.waiting: list[Fault] = []

    def add(self, asked: Mapping[str, Any], endpoints: frozenset[str]) -> Fault:
        """Raises ConfigurationError for an unknown kind, endpoint or count."""
        own = {name: asked[name] for name in ("kind", "endpoint", "count", "skip") if name in asked}
        fault = Fault(**own, details={name: value for name, value in asked.items() if name not in own})
        wrong = []
        if fault.kind not in KINDS:
            wrong.append(f"kind: found {fault.kind!r}, expected one of {', '.join(KINDS)}")
        if fault.endpoint not in endpoints | {"*"}:
            wrong.append(f"endpoint: found {fault.endpoint!r}, expected * or one of {', '.join(sorted(endpoints))}")
        if not isinstance(fault.count, int) or fault.count < 1:
            wrong.append(f"count: found {fault.count!r}, expected 1 or more")
        if wrong:
            raise ConfigurationError(wrong)
        self.waiting.append(fault)
        return fault

    def take(self, endpoint: str) -> list[Fault]:
        """What goes wrong with this call: of each phase the first that concerns it, counted down."""
        taken: list[Fault] = []
        for fault in list(self.waiting):
            if fault.kind in SOCKET or fault.endpoint not in ("*", endpoint):
                continue
            if fault.kind not in EITHER and any(other.kind not in EITHER for other in taken):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            self._count_down(fault)
            taken.append(fault)
        return taken

    def take_socket(self, kind: str, channel: str) -> Fault | None:
        for fault in self.waiting:
            if fault.kind == kind and fault.details.get("channel", channel) == channel:
                self._count_down(fault)
                return fault
        return None

    def _count_down(self, fault: Fault) -> None:
        fault.count -= 1
        if not fault.count:
            self.waiting.remove(fault)
