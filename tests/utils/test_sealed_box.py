"""What is sealed opens with its key and its context, and with nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.utils.errors import AgentError
from syntra.utils.sealed_box import SealedBox, Unsealable

BOX = SealedBox(bytes(range(32)))


@settings(max_examples=50)
@given(st.binary(max_size=300), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_what_is_sealed_unseals(plaintext: bytes, context: str) -> None:
    assert BOX.unseal(BOX.seal(plaintext, context), context) == plaintext


def test_the_same_value_never_seals_to_the_same_bytes() -> None:
    sealed = {BOX.seal(b"a", "c") for _ in range(50)}
    assert len(sealed) == 50 and all(each[0] == 1 and len(each) == 1 + 12 + 1 + 16 for each in sealed)


def test_any_changed_byte_and_any_cut_makes_it_unsealable() -> None:
    sealed = BOX.seal(b"DB=secret", "service|deployment")
    for index in range(len(sealed)):
        broken = bytearray(sealed)
        broken[index] ^= 1
        for bad in (bytes(broken), sealed[:index]):
            with pytest.raises(Unsealable, match=r"cannot unseal service\|deployment: .*; "):
                BOX.unseal(bad, "service|deployment")


def test_another_context_or_key_makes_it_unsealable() -> None:
    sealed = BOX.seal(b"x", "a")
    for box, context in ((BOX, "b"), (SealedBox(bytes(32)), "a")):
        with pytest.raises(Unsealable):
            box.unseal(sealed, context)


def test_the_key_does_not_show() -> None:
    assert repr(BOX) == "SealedBox(key hidden)"


def test_a_key_is_made_once_privately_and_used_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    old = os.umask(0)
    try:
        sealed = SealedBox.open_or_create(path).seal(b"x", "c")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o7777 == 0o600 and path.stat().st_size == 32
    assert SealedBox.open_or_create(path).unseal(sealed, "c") == b"x"
    assert os.listdir(tmp_path) == ["key"]


def test_all_who_create_at_once_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        boxes = list(pool.map(SealedBox.open_or_create, [tmp_path / "key"] * 16))
    sealed = boxes[0].seal(b"x", "c")
    assert all(box.unseal(sealed, "c") == b"x" for box in boxes)
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_key_that_others_can_get_at_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    SealedBox.open_or_create(path)
    path.chmod(mode)
    with pytest.raises(AgentError, match=f"mode 0{mode:o} lets other users read it; run chmod 0600"):
        SealedBox.open_or_create(path)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_key_of_another_size_is_refused_and_kept(tmp_path: Path, size: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"k" * size)
    path.chmod(0o600)
    with pytest.raises(AgentError, match=f"it has {size} bytes, not 32"):
        SealedBox.open_or_create(path)
    assert path.stat().st_size == size


def test_a_symlink_a_fifo_and_a_directory_are_refused(tmp_path: Path) -> None:
    SealedBox.open_or_create(tmp_path / "key")
    (tmp_path / "link").symlink_to("key")
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "directory").mkdir(0o700)
    for name, words in (("link", "symlink"), ("fifo", "regular"), ("directory", "regular")):
        with pytest.raises(AgentError, match=words):
            SealedBox.open_or_create(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    SealedBox.open_or_create(path)
    os.chown(path, 12345, 12345)
    with pytest.raises(AgentError, match="user id 12345"):
        SealedBox.open_or_create(path)


def test_a_missing_directory_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"cannot open key .*No such file.*; check"):
        SealedBox.open_or_create(tmp_path / "no" / "key")


def test_importing_the_module_does_not_load_the_cryptography_library() -> None:
    program = "import sys, syntra.utils.sealed_box as s; s.SealedBox(bytes(32)); print('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
