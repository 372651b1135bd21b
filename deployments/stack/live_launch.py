"""The worker of runs with real orders: a process of its own, as the user that may read the key that trades."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from config.credentials.secret import forbid_core_dumps
from config.prefect import client_settings
from config.settings import PROJECT, load, private_folder, with_absolute_paths
from deployments.stack.premises import read_record
from trading.errors import ConfigurationError


def become_live_worker() -> NoReturn:
    """Turns this process into the worker of the pool `live`; it polls the server until it is told to stop.

    The server is that of PREFECT_API_URL, or else the stack that runs in this state folder. Raises ConfigurationError.
    """
    settings = load()
    environment = with_absolute_paths(os.environ) | {"KEEL_PROJECT": str(PROJECT)}
    if not environment.get("PREFECT_API_URL"):
        home = private_folder(settings.home).resolve()
        record = read_record(home)
        if record is None or not record.supervisor.alive():
            raise ConfigurationError(f"PREFECT_API_URL: found nothing, and no stack runs in {home}: `keel up`, or set it")
        environment |= client_settings(home, record.port)
    forbid_core_dumps()  # runs inherit it: a core would hold the key
    os.chdir(PROJECT)
    command = (sys.executable, "-m", "deployments.stack.live_worker", "serve")  # anew: Prefect reads its settings once
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is meant
