"""The encrypted file: what goes in comes out, one changed bit closes it, and a rotation may be killed anywhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.credentials import Secret
from config.credentials.vault import KeyFile, Opener, Passphrase, rotate, seal, unseal
from trading.errors import ConfigurationError

VALUES = {"COINBASE_API_KEY": Secret("a name"), "COINBASE_PRIVATE_KEY": Secret("line\nline\n")}
KILLING = {"open", "write", "fsync", "flush", "replace", "unlink", "close"}


def quick(text: str) -> Passphrase:
    return Passphrase(Secret(text), memory_kib=32, passes=1)


@given(values=st.dictionaries(st.text(), st.text()), by_file=st.booleans())
def test_what_goes_in_comes_out(values: dict[str, str], by_file: bool) -> None:
    with TemporaryDirectory() as folder:
        opener: Opener = KeyFile(Path(folder, "key")) if by_file else quick("a long passphrase")
        seal(Path(folder, "vault"), {name: Secret(text) for name, text in values.items()}, opener)
        assert {name: text.reveal() for name, text in unseal(Path(folder, "vault"), opener).items()} == values


@pytest.mark.parametrize("by_file", [True, False])
def test_one_flipped_bit_anywhere_closes_it(tmp_path: Path, by_file: bool) -> None:
    vault = tmp_path / "vault"
    opener: Opener = KeyFile(tmp_path / "key") if by_file else quick("right")
    seal(vault, VALUES, opener)
    whole = vault.read_bytes()
    bits = range(len(whole) * 8) if by_file else range(0, len(whole) * 8, 11)
    for bit in bits:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        vault.write_bytes(changed)
        with pytest.raises(ConfigurationError):
            unseal(vault, opener)


def test_a_part_of_it_never_opens(tmp_path: Path) -> None:
    vault, opener = tmp_path / "vault", KeyFile(tmp_path / "key")
    seal(vault, VALUES, opener)
    whole = vault.read_bytes()
    for length in range(len(whole)):
        vault.write_bytes(whole[:length])
        with pytest.raises(ConfigurationError):
            unseal(vault, opener)


def test_another_key_never_opens_it(tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    seal(vault, VALUES, quick("right"))
    with pytest.raises(ConfigurationError, match="cannot be opened: the passphrase is another one"):
        unseal(vault, quick("wrong"))
    with pytest.raises(ConfigurationError, match="found a vault for a passphrase"):
        unseal(vault, KeyFile(tmp_path / "key"))


@pytest.mark.parametrize("exposed", ["vault", "key"])
def test_vault_and_key_are_private(tmp_path: Path, exposed: str) -> None:
    seal(tmp_path / "vault", VALUES, KeyFile(tmp_path / "key"))
    assert (tmp_path / exposed).stat().st_mode & 0o777 == 0o600
    (tmp_path / exposed).chmod(0o640)
    with pytest.raises(ConfigurationError, match="found mode 0640"):
        unseal(tmp_path / "vault", KeyFile(tmp_path / "key"))


def test_a_rotation_keeps_the_values_and_nothing_of_the_old_key(tmp_path: Path) -> None:
    vault, opener = tmp_path / "vault", KeyFile(tmp_path / "key")
    seal(vault, VALUES, opener)
    old = opener.file.read_bytes()
    os.link(opener.file, tmp_path / "seen")
    rotate(vault, opener, opener)
    assert unseal(vault, opener) == VALUES
    assert opener.file.read_bytes() != old
    assert (tmp_path / "seen").read_bytes().strip(b"\0") == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "seen", "vault"]


def test_a_rotation_from_passphrase_to_passphrase_closes_the_old_one(tmp_path: Path) -> None:
    seal(tmp_path / "vault", VALUES, quick("old"))
    rotate(tmp_path / "vault", quick("old"), quick("new"))
    assert unseal(tmp_path / "vault", quick("new")) == VALUES
    with pytest.raises(ConfigurationError):
        unseal(tmp_path / "vault", quick("old"))


def test_a_rotation_killed_at_any_step_leaves_a_vault_that_opens_and_rotates(tmp_path: Path) -> None:
    for step in range(200):
        folder = tmp_path / str(step)
        folder.mkdir()
        vault, opener = folder / "vault", KeyFile(folder / "key")
        seal(vault, VALUES, opener)
        finished = _rotate_until(step, vault, opener)
        assert unseal(vault, opener) == VALUES
        rotate(vault, opener, opener)
        assert unseal(vault, opener) == VALUES
        assert sorted(path.name for path in folder.iterdir() if ".draft" not in path.name) == ["key", "vault"]
        if finished:
            assert step > 15
            return
    pytest.fail("the rotation never came to its end")


def _rotate_until(step: int, vault: Path, opener: KeyFile) -> bool:
    """Rotates in a child that dies before its call number `step` that touches a file; True if it came to its end."""
    child = os.fork()
    if child == 0:
        left = step

        def count(_frame: FrameType, event: str, argument: Any) -> None:
            nonlocal left
            if event == "c_call" and argument.__name__ in KILLING:
                if left == 0:
                    os._exit(9)
                left -= 1

        sys.setprofile(count)
        rotate(vault, opener, opener)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
