"""The smoke test of an installation runs by itself, over a ledger that it starts and removes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import PROJECT

pytestmark = pytest.mark.e2e


def test_the_smoke_test_says_a_line_for_each_check_and_ends_with_zero(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name in ("KEEL_PG_BIN", "KEEL_PG_USER", "PATH")}
    done = subprocess.run(
        [sys.executable, str(PROJECT / "tests" / "integration" / "test_live_trading_system.py")],
        cwd=tmp_path, env=kept | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    assert len(lines) >= 16
    assert all(line.startswith("ok ") for line in lines)
    assert last == f"{len(lines)} of {len(lines)} checks hold."
    assert list(tmp_path.iterdir()) == [], "nothing is left"
