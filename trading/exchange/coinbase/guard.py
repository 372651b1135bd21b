"""The last look at a request before its bytes leave: host, hash, certificate authority and time-outs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from trading.errors import Halted, NotSent

CANCELS = "/orders/batch_cancel"


class GuardedAdapter(HTTPAdapter):
    """Sends only to `host` over TLS that `ca_file` vouches for, and of bodies only the one that was pledged.

    It looks at the prepared request, after every layer of the SDK and of requests has had its say. What it refuses has
    not left: it raises NotSent, or Halted for all but cancels while the halt file is there. Neither the environment nor
    the session can change authority, proxies or the time-outs (connect, read; seconds).
    """

    def __init__(self, host: str, ca_file: Path, timeout: tuple[float, float]) -> None:
        super().__init__(max_retries=0)
        self.host, self.ca_file, self.timeout_seconds = host, ca_file, timeout
        self.pledged = ""
        self.halted: Callable[[], str] = str
        """Why nothing but cancels may leave, asked at each send; empty when it may."""

    def pledge(self, digest: str) -> None:
        """The next body that leaves has this SHA-256; it is good once."""
        self.pledged = digest

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        del timeout, verify, cert, proxies
        self._look(request)
        return super().send(request, stream=stream, timeout=self.timeout_seconds, verify=str(self.ca_file), proxies={})

    def _look(self, request: requests.PreparedRequest) -> None:
        pledged, self.pledged = self.pledged, ""
        to = urlsplit(request.url or "")
        if to.scheme != "https" or to.netloc != self.host:
            raise NotSent(f"coinbase: found a request to {to.scheme}://{to.netloc}, expected https://{self.host}")
        if request.method == "GET" and request.body is None:
            return
        if not to.path.endswith(CANCELS) and (reason := self.halted()):
            raise Halted(reason)
        # A stream or an iterator could differ from what is hashed here: only bytes leave.
        if not isinstance(request.body, bytes) or sha256(request.body).hexdigest() != pledged:
            raise NotSent(
                f"coinbase: {request.method} {to.path}: the body on the wire is not the one that was approved, nothing was sent"
            )
