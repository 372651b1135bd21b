"""Prefect's settings for the local stack: what the server, the worker, the runs and a person's shell share."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from config.settings import PROJECT, private_folder, with_absolute_paths, write_private

HOST = "127.0.0.1"
USER = "keel"

# A setting of the caller's shell may name another server or profile, so only these reach the stack.
_KEPT = ("PREFECT_SERVER_DATABASE_", "PREFECT_SERVER_ENCRYPTION_KEY", "PREFECT_LOGGING_", "PREFECT_WORKER_")
_SERVER = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # No hidden server of its own where the address is wrong: the command fails instead.
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    # In memory, a slot that was taken when the server died would stay taken for ever.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # SQLite takes one writer: small batches, so that a burst of task states is not lost to "database is locked".
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "50",
}
_CLIENT = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # the default is pickle
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_CLI_PROMPT": "false",
}
_WORKER = {
    "PREFECT_WORKER_PREFETCH_SECONDS": "30",  # the imports are done before the slot's time
    "PREFECT_WORKER_QUERY_SECONDS": "2",
}


def api_url(port: int) -> str:
    return f"http://{HOST}:{port}/api"


def ui_url(port: int) -> str:
    return f"http://{HOST}:{port}"


def temporary(home: Path) -> Path:
    """Folder for the temporary files of the stack's programs; emptied at each start."""
    return home / "tmp"


def auth_string(home: Path) -> str:
    """`keel:<secret>`: made once, kept in a file that only its owner reads. The UI asks for it at the first visit."""
    file = home / "auth"
    if not file.exists():
        write_private(file, f"{USER}:{secrets.token_urlsafe(24)}\n")
    return file.read_text().strip()


def client_settings(home: Path, port: int) -> dict[str, str]:
    """What a shell needs to talk to this stack's server, and never to the user's own profile."""
    folder = private_folder(home / "prefect")
    return {
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_API_URL": api_url(port),
        "PREFECT_API_AUTH_STRING": auth_string(home),
        **_CLIENT,
        "KEEL_HOME": str(home),
        "KEEL_PROJECT": str(PROJECT),
    }


def stack_environment(home: Path, port: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the server, the worker and its runs. The key that trades is none of theirs."""
    from config.credentials.places import TRADE  # noqa: PLC0415 - a shell's `keel` asks for these settings without it

    here = with_absolute_paths(inherited)
    kept = {name: value for name, value in here.items() if not name.startswith("PREFECT_") or name.startswith(_KEPT)}
    for name in (*TRADE, "PYTHONDONTWRITEBYTECODE"):  # the latter doubles every start
        kept.pop(name, None)
    ours = {
        "PYTHONSAFEPATH": "1",  # a stack that is started in the folder of another checkout runs its own code, not that one's
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_AUTH_STRING": auth_string(home),
        # The worker keeps its files in <temporary folder>/runner_storage, which belongs to the first user who had one.
        "TMPDIR": str(private_folder(temporary(home))),
        **_SERVER,
        **client_settings(home, port),
    }
    return _WORKER | kept | ours
