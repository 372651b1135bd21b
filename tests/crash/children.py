"""A child of this process, forked warm, that may be killed or held to limits: the parent learns its status."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable


def in_a_child(action: Callable[[], None], kill_after: float | None = None) -> int:
    """The child's wait status. With `kill_after`, it gets SIGKILL so many seconds after it began."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:  # noqa: BLE001 - the status tells; pytest's own teardown belongs to the parent
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)  # the instant itself is what is being tried
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status
