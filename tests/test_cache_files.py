"""The files of the cache of compiled kernels: who could have written them, whether they are whole, and which go."""

import contextlib
import os
import pickle
import time
from pathlib import Path

import pytest
from numba.core.registry import cpu_target

from fastnn.kernels.compiler import cache, store

DAY = 24 * 3600

needs_modes = pytest.mark.skipif(os.name != "posix", reason="only POSIX says who may write")


def aged_folder(parent, name, days):
    """A folder with a kernel in it, last used some days ago."""
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / "kernel.nbc").write_text("")
    when = time.time() - days * DAY
    os.utime(folder, (when, when))
    return folder


@needs_modes
class TestTrust:
    """Whoever can write a file of machine code, or put another in its place, runs what they like in the process."""

    @pytest.fixture
    def folder(self, tmp_path):
        """A folder as the cache makes it, two below another."""
        folder = tmp_path / "caches" / "fastnn" / "0123456789abcdef01234567"
        store.write(folder / "kernel.nbc", b"code")
        assert store.read(folder / "kernel.nbc") == b"code"
        return folder

    @pytest.mark.parametrize("level", [0, 1, 2], ids=["itself", "the one above", "further up"])
    def test_a_folder_that_everybody_can_write(self, level, folder):
        place = [folder, *folder.parents][level]
        place.chmod(0o757)
        assert store.distrust(folder) == f"others can write into {place}"
        assert store.read(folder / "kernel.nbc") is None
        with pytest.raises(PermissionError, match="others can write into"):
            store.write(folder / "kernel.nbc", b"other code")
        place.chmod(0o755)
        assert store.read(folder / "kernel.nbc") == b"code"

    @pytest.mark.parametrize(("level", "trusted"), [(0, False), (1, False), (2, True)])
    def test_a_folder_that_a_group_can_write(self, level, trusted, folder):
        """Home folders are that often, for a group of one; what lies in ours would have to belong to their owner."""
        [folder, *folder.parents][level].chmod(0o775)
        assert (store.read(folder / "kernel.nbc") == b"code") == trusted

    def test_a_folder_like_that_for_temporary_files(self, folder):
        """Everybody can write into it, but nobody can replace what others have there."""
        folder.parents[1].chmod(0o1777)
        assert store.read(folder / "kernel.nbc") == b"code"
        folder.parent.chmod(0o1777)
        assert store.read(folder / "kernel.nbc") is None

    @pytest.mark.parametrize("mode", [0o664, 0o646])
    def test_a_file_that_others_can_write(self, mode, folder):
        (folder / "kernel.nbc").chmod(mode)
        assert store.read(folder / "kernel.nbc") is None

    @pytest.mark.parametrize("name", [".", "..", "kernel.nbc"])
    def test_the_property_of_others(self, name, folder, monkeypatch):
        """But for root, and whoever installed fastnn, whose code runs anyway."""
        monkeypatch.setattr(store, "__file__", "in an archive")
        assert store.read(folder / "kernel.nbc") == b"code"
        if os.geteuid() == 0:
            os.chown(folder / name, 12345, -1)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert store.read(folder / "kernel.nbc") is None
        (folder.parents[2] / "installed").write_text("")
        monkeypatch.setattr(store, "__file__", folder.parents[2] / "installed")
        if os.geteuid() == 0:
            os.chown(store.__file__, 12345, -1)
        assert store.read(folder / "kernel.nbc") == b"code"

    def test_a_link(self, tmp_path):
        """It is the folder behind it that counts, with those above that."""
        (tmp_path / "real" / "caches").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "real" / "caches")
        kernel = tmp_path / "link" / "fastnn" / "0123456789abcdef01234567" / "kernel.nbc"
        store.write(kernel, b"code")
        assert store.read(kernel) == b"code"
        (tmp_path / "real").chmod(0o777)
        assert store.read(kernel) is None

    def test_whatever_the_mask(self, tmp_path):
        """A mask that shuts nobody out would make folders that the next process distrusts."""
        mask = os.umask(0)
        try:
            store.write(tmp_path / "a" / "b" / "c" / "kernel.nbc", b"code")
        finally:
            os.umask(mask)
        assert store.read(tmp_path / "a" / "b" / "c" / "kernel.nbc") == b"code"
        assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")} == {0o755, 0o644}

    @pytest.mark.parametrize(
        ("module", "name", "value", "message"),
        [
            (cache, "FOR_ALL_USERS", "file/fastnn", "file"),
            (cache, "FOR_ALL_USERS", "open/fastnn", "others can write into .*open"),
            (os, "access", lambda path, mode: False, "closed.* cannot be written"),
            (cache, "FINGERPRINT", None, "needs sources on disk"),
        ],
        ids=["no folder", "others", "read-only", "no sources"],
    )
    def test_none_for_all_users(self, module, name, value, message, tmp_path, monkeypatch):
        before = [*cache.FOLDERS]
        (tmp_path / "file").write_text("")
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        monkeypatch.setattr(cache, "FOR_ALL_USERS", tmp_path / "closed")
        monkeypatch.setattr(module, name, tmp_path / value if isinstance(value, str) else value)
        with pytest.raises(OSError, match=message):
            cache.keep_for_all_users()
        assert before == cache.FOLDERS


class TestDamage:
    def test_any_bit_and_any_length(self, tmp_path):
        kernel = tmp_path / "0123456789abcdef01234567" / "kernel.nbc"
        store.write(kernel, b"machine code")
        whole = kernel.read_bytes()
        for bit in range(8 * len(whole)):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            kernel.write_bytes(changed)
            assert store.read(kernel) is None
        for size in range(len(whole)):
            kernel.write_bytes(whole[:size])
            assert store.read(kernel) is None
        kernel.write_bytes(whole + b"\0")
        assert store.read(kernel) is None
        kernel.write_bytes(whole)
        assert store.read(kernel) == b"machine code"

    @pytest.mark.parametrize("place", ["0123456789abcdef01234567/other.nbc", "1123456789abcdef01234567/kernel.nbc"])
    def test_a_file_in_the_place_of_another(self, place, tmp_path):
        kernel = tmp_path / "0123456789abcdef01234567" / "kernel.nbc"
        store.write(kernel, b"machine code")
        store.write(tmp_path / place, b"other code")
        (tmp_path / place).write_bytes(kernel.read_bytes())
        assert store.read(tmp_path / place) is None

    @pytest.mark.parametrize("verified", [False, True])
    def test_nothing_is_unpickled_before_it_is_verified(self, verified, tmp_path, monkeypatch):
        """And what is no kernel all the same is a miss."""

        class Trap:
            def __reduce__(self):
                return Path.touch, (tmp_path / "sprung",)

        monkeypatch.setattr(cache, "FOLDERS", [tmp_path / "fastnn" / "0123456789abcdef01234567"])
        kept = cache.Cache(aged_folder)
        kernel = cache.FOLDERS[0] / kept.file_name("signature")
        store.write(kernel, pickle.dumps(Trap()))
        if not verified:
            kernel.write_bytes(pickle.dumps(Trap()))
        assert kept.load_overload("signature", cpu_target.target_context) is None
        assert (tmp_path / "sprung").exists() == verified

    def test_a_write_that_fails_leaves_nothing(self, tmp_path, monkeypatch):
        def full(source, destination):
            raise OSError(28, "No space left on device")

        kernel = tmp_path / "f" / "kernel.nbc"
        store.write(kernel, b"before")
        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            store.write(kernel, b"after")
        assert [path.name for path in tmp_path.rglob("*.*")] == ["kernel.nbc"]
        assert store.read(kernel) == b"before"


class TestPruning:
    def test_only_fingerprints_that_nobody_uses_go(self, tmp_path):
        old = aged_folder(tmp_path, "0123456789abcdef01234567", store.KEEP_DAYS + 1)
        kept = [
            aged_folder(tmp_path, "f123456789abcdef01234567", store.KEEP_DAYS - 1),
            aged_folder(tmp_path, "0123456789abcdef0123456", 999),
            aged_folder(tmp_path, "0123456789ABCDEF01234567", 999),
            aged_folder(tmp_path, "pictures", 999),
        ]
        file = tmp_path / "e123456789abcdef01234567"
        file.write_text("")
        os.utime(file, (0, 0))
        link = tmp_path / "d123456789abcdef01234567"
        with contextlib.suppress(OSError):
            link.symlink_to(aged_folder(tmp_path / "elsewhere", "photos", 999), target_is_directory=True)
            kept.append(link)
        store.prune(tmp_path)
        assert not old.exists()
        assert all((folder / "kernel.nbc").exists() for folder in kept)
        assert file.exists()

    def test_a_folder_that_cannot_be_read_is_left_alone(self, tmp_path, monkeypatch):
        store.prune(tmp_path / "missing")
        aged_folder(tmp_path, "0123456789abcdef01234567", 999)

        def refuse(path, **_):
            raise PermissionError(path)

        monkeypatch.setattr(Path, "stat", refuse)
        store.prune(tmp_path)
