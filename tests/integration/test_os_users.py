"""The key that trades behind a user of its own: that user's processes find it, another user's find nothing but a closed door.

Users are changed to with root's rights; without them the tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.credentials import get_credentials_manager
from config.halt import halted_by, remove_halt, write_halt
from config.settings import Settings, private_folder
from tests.builders import real_money
from tests.builders.plans import NOON
from trading.errors import ConfigurationError

LIVE, STACK = 54321, 54322
"""Ids of no account, so that nothing on the machine is theirs."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as two other users")


def as_user(uid: int, action: Callable[[], str]) -> str:
    """What the action says in a process of that user; `CLASS: message` of the error that it raises."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            said = action()
        except BaseException as error:  # noqa: BLE001 - the parent judges; pytest's own teardown belongs to it
            said = f"{type(error).__name__}: {error}"
        os.write(writes, said.encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as told:
        said = told.read()
    os.waitpid(child, 0)
    return said


def found_key() -> str:
    return repr(get_credentials_manager().get_coinbase_credentials())


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may pass through: what is closed in it is closed by its own rights."""
    with tempfile.TemporaryDirectory(prefix="keel-users-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def key_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the live worker's user, as `keel credentials set` leaves it."""
    file = folder / ".env.coinbase"
    lines = [f'{name}="{text}"' for name, text in real_money.keys().items()]
    file.write_text("\n".join(lines).replace("-----\n", "-----\\n").replace("\n-----", "\\n-----"))
    file.chmod(0o600)
    real_money.only(monkeypatch, folder / "home", KEEL_CREDENTIALS_FILE=str(file))
    found_key()  # loads what it imports: the other users may not be let at this Python's files
    os.chown(file, LIVE, LIVE)
    return file


def test_the_live_workers_user_finds_the_key_and_another_user_does_not(key_file: Path) -> None:
    assert as_user(LIVE, found_key).startswith("CoinbaseKey(ES256, public key ")
    assert as_user(STACK, found_key) == f"ConfigurationError: {key_file}: cannot be read: Permission denied"
    assert as_user(STACK, key_file.read_text).startswith("PermissionError: ")


def test_a_key_in_a_folder_that_is_closed_to_another_user_is_an_error_for_that_user_and_no_key(
    folder: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = folder / "live"
    closed.mkdir(mode=0o700)
    os.chown(closed, LIVE, LIVE)
    moved = key_file.rename(closed / key_file.name)
    monkeypatch.setenv("KEEL_CREDENTIALS_FILE", str(moved))
    assert as_user(LIVE, found_key).startswith("CoinbaseKey(ES256, public key ")
    assert as_user(STACK, found_key) == f"ConfigurationError: {moved}: cannot be looked for: Permission denied"


@pytest.mark.parametrize(("writer", "other"), [(STACK, LIVE), (LIVE, STACK)])
def test_either_user_halts_both_and_takes_away_the_halt_of_the_other(folder: Path, writer: int, other: int) -> None:
    shared = folder / "halt"  # as docs/deployment.md makes it: install -d -m 2775 -o keel -g keel-live
    shared.mkdir()
    os.chown(shared, STACK, LIVE)
    shared.chmod(0o2775)
    settings = Settings(home=folder / "home", halt_file=shared / "HALT")
    assert as_user(writer, lambda: write_halt(settings, "a drill", "somebody", NOON).name) == "HALT"
    assert as_user(writer, halted_by(settings)).startswith(f"halted by {shared}/HALT: ")
    assert as_user(other, halted_by(settings)).startswith(f"halted by {shared}/HALT")
    assert as_user(other, lambda: str(remove_halt(settings))) == "True"
    assert as_user(writer, halted_by(settings)) == ""


def test_a_state_folder_that_another_user_may_not_make_is_an_error_that_names_the_setting(folder: Path) -> None:
    wanted = folder / "state"
    said = as_user(STACK, lambda: str(private_folder(wanted)))
    assert said == f"ConfigurationError: folder {wanted}: cannot be made: Permission denied (KEEL_HOME names another)"


@pytest.mark.usefixtures("key_file")
def test_a_key_file_of_another_user_is_refused_though_it_could_be_read() -> None:
    with pytest.raises(ConfigurationError, match=f"found an owner with id {LIVE}, expected the user who runs this, 0"):
        get_credentials_manager().get_coinbase_credentials()


def test_a_key_in_the_environment_of_one_users_process_is_closed_to_another_user() -> None:
    keys = real_money.keys()
    with subprocess.Popen(["/bin/sleep", "60"], env=keys, user=LIVE, group=LIVE, extra_groups=[]) as worker:
        environment = Path(f"/proc/{worker.pid}/environ")
        try:
            assert "COINBASE_PRIVATE_KEY" in as_user(LIVE, environment.read_text)
            assert as_user(STACK, environment.read_text).startswith("PermissionError: ")
        finally:
            worker.kill()
