"""The dashboard: a Streamlit page of the books, read as keel_report, on loopback."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from trading.errors import ConfigurationError

HOST, FIRST_PORT = "127.0.0.1", 8501
APP = Path(__file__).with_name("app.py")


def command(port: int) -> list[str]:
    """The program that serves the page. Raises ConfigurationError where the extra is not installed."""
    if find_spec("streamlit") is None:
        raise ConfigurationError(
            "streamlit: not installed; expected the extra: `make dashboard`, or pip install 'tradekeel[dashboard]'"
        )
    options = {
        "server.address": HOST,
        "server.port": port,
        "server.headless": "true",              # no browser is opened, and no address is asked of a server outside
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": HOST,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",      # a trace is for the log, not for a page
        "theme.base": "light",
        "theme.primaryColor": "#3563d4",        # red is for what is wrong
    }  # fmt: skip
    return [sys.executable, "-m", "streamlit", "run", str(APP), *(f"--{name}={value}" for name, value in options.items())]
