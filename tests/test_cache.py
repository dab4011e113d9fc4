"""What users do to the cache of compiled kernels. A stale kernel is a wrong result, an unusable folder only costs time.

Each process has folders of its own. Whether it compiled shows in its log; a process loads what it need not compile.
"""

import contextlib
import os
import platform
import shutil
import time
from pathlib import Path

import llvmlite
import numba
import numpy as np
import pytest

from fastnn.kernels import _cache
from tests.processes import ROOT, finish, run, start

# The kernels are tried here, whichever twin the environment chooses: once is enough.
pytestmark = pytest.mark.skipif(os.environ.get("FASTNN_BACKEND") == "numpy", reason="tries the kernels")

# w - 0.5 g: the kernel that compiles fastest, with callees in two other files.
STEP = """
import sys
sys.modules["scipy"] = None  # Numba would load it, for nothing here

import numpy as np
import fastnn as fnn

def step(dtype):
    w = np.full(21, 2, dtype)
    fnn.sgd_update(w, np.ones(21, dtype), 0.5)
    assert len(set(w)) == 1
    return w[0]

print(*(step(dtype) for dtype in sys.argv[1:] or ["float32"]))
"""
COMPILING = "compiling kernels"
NOWHERE = {"NUMBA_CACHE_DIR": None, "NUMBA_CPU_NAME": None, "NUMBA_CPU_FEATURES": None, "FASTNN_BACKEND": None}
DAY = 24 * 3600


def steps(package=ROOT, code=STEP, **environment):
    """The result of STEP in a new process, and whether that compiled a kernel."""
    out, err = run(code, package, **{**NOWHERE, **environment})
    return out.strip(), COMPILING in err


def fingerprints(folder):
    return sorted(path for path in folder.glob("*") if path.is_dir() and len(path.name) == 24)


@pytest.fixture
def package(tmp_path):
    """A copy of the library, and beside it a home folder."""
    ignored = shutil.ignore_patterns("__pycache__", "*.gz", "*.npz")
    shutil.copytree(ROOT / "fastnn", tmp_path / "site" / "fastnn", ignore=ignored)
    return tmp_path / "site"


def home_of(tmp_path):
    return {"HOME": tmp_path / "home", "XDG_CACHE_HOME": tmp_path / "home" / "caches", "PYTHONDONTWRITEBYTECODE": "1"}


def close(folder):
    """Make a folder that nobody can write to, not even root, whom permissions do not bind: it is a file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("")


def aged_folder(parent, name, days):
    """A folder with a kernel in it, last used some days ago."""
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / "kernel.nbc").write_text("")
    when = time.time() - days * DAY
    os.utime(folder, (when, when))
    return folder


class TestInstallation:
    def test_writable(self, package, tmp_path):
        """The kernels lie beside their sources, for all to read, whoever starts Python; use is noted."""
        caches = package / "fastnn" / "kernels" / "__pycache__"
        unused = aged_folder(caches, "0123456789abcdef01234567", 999)
        mask = os.umask(0o022)
        try:
            assert steps(package, **home_of(tmp_path)) == ("1.5", True)
        finally:
            os.umask(mask)
        (folder,) = fingerprints(caches)
        assert folder != unused
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
        assert not (tmp_path / "home").exists()
        os.utime(folder, (0, 0))
        assert steps(package, **home_of(tmp_path / "another")) == ("1.5", False)
        assert time.time() - folder.stat().st_mtime < DAY

    def test_read_only(self, package, tmp_path):
        close(package / "fastnn" / "kernels" / "__pycache__")
        assert steps(package, **home_of(tmp_path)) == ("1.5", True)
        assert steps(package, **home_of(tmp_path)) == ("1.5", False)
        assert len(list((tmp_path / "home").rglob("*.nbc"))) == 1

    def test_neither_package_nor_home_can_be_written(self, package, tmp_path):
        close(package / "fastnn" / "kernels" / "__pycache__")
        close(tmp_path / "home")
        assert steps(package, **home_of(tmp_path)) == ("1.5", True)

    def test_a_folder_of_the_users_choice_that_cannot_be_written(self, tmp_path):
        close(tmp_path / "cache")
        assert steps(NUMBA_CACHE_DIR=tmp_path / "cache") == ("1.5", True)

    def test_a_full_disk(self, tmp_path):
        """A limit on the size of files stands for the disk: the write fails after it has begun."""
        pytest.importorskip("resource")
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        assert steps(code=limit + STEP, NUMBA_CACHE_DIR=tmp_path) == ("1.5", True)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class TestStaleness:
    def test_an_edit_in_another_file_than_the_caller_and_an_upgrade_of_numba(self, package, tmp_path):
        """Minus becomes plus in the file of the vectors, which the file of the kernel imports; and back again."""
        home, file = home_of(tmp_path), package / "fastnn" / "kernels" / "_vector.py"
        assert steps(package, **home) == ("1.5", True)
        assert steps(package, "import numba; numba.__version__ = '99.0'\n" + STEP, **home) == ("1.5", True)
        source, minus = file.read_text(), "builder.fsub(a, b, flags=FASTMATH)"
        assert source.count(minus) == 1
        file.write_text(source.replace(minus, "builder.fadd(a, b, flags=FASTMATH)"))
        assert steps(package, **home) == ("2.5", True)
        file.write_text(source)
        assert steps(package, **home) == ("1.5", False)
        folders = fingerprints(package / "fastnn" / "kernels" / "__pycache__")
        assert [len(list(folder.iterdir())) for folder in folders] == [1, 1, 1]

    def test_a_new_version_of_fastnn(self, tmp_path, monkeypatch):
        """Whatever changed, in whichever file, a file that was renamed included."""
        shutil.copytree(ROOT / "fastnn" / "kernels", tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(_cache, "_SOURCES", tmp_path / "kernels")
        found = [_cache.fingerprint()]
        assert found == [_cache.FINGERPRINT]
        for path in (tmp_path / "kernels").rglob("*.py"):
            path.write_text(path.read_text() + "\n")
            found.append(_cache.fingerprint())
        path.rename(path.with_name("renamed.py"))
        found.append(_cache.fingerprint())
        assert len(set(found)) == len(found) > 15

    @pytest.mark.parametrize("module", [numba, llvmlite, np], ids=lambda module: module.__name__)
    def test_whatever_is_upgraded(self, module, monkeypatch):
        before = _cache.fingerprint()
        assert before == _cache.fingerprint() == _cache.FINGERPRINT
        monkeypatch.setattr(module, "__version__", "99.0")
        assert _cache.fingerprint() != before

    @pytest.mark.parametrize(("option", "value"), [("BOUNDSCHECK", 1), ("OPT", 0), ("SLP_VECTORIZE", 1)])
    def test_options_of_the_compiler(self, option, value, monkeypatch):
        monkeypatch.setattr(numba.config, option, value)
        assert _cache.fingerprint() != _cache.FINGERPRINT

    @pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names CPUs of one family")
    def test_another_cpu_on_a_shared_home_folder(self, tmp_path):
        """Neither loads what was compiled for the other, and both keep their own."""
        cpus = [{"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""} for name in ("generic", "nocona")]
        for cpu, compiles in zip([*cpus, cpus[0]], [True, True, False], strict=True):
            assert steps(NUMBA_CACHE_DIR=tmp_path, **cpu) == ("1.5", compiles)
        assert len(fingerprints(tmp_path / "fastnn")) == 2


class TestFilling:
    def test_two_processes_at_once(self, tmp_path):
        """Each fills in other signatures of one kernel first; a third process finds them all."""
        orders = ["float32", "float64"], ["float64", "float32"]
        codes = [f"import sys; sys.argv[1:] = {order}\n{STEP}" for order in orders]
        running = [start(code, **{**NOWHERE, "NUMBA_CACHE_DIR": tmp_path}) for code in codes]
        for out, err in map(finish, running):
            assert out == "1.5 1.5\n"
            assert COMPILING in err
        assert steps(code=codes[0], NUMBA_CACHE_DIR=tmp_path) == ("1.5 1.5", False)
        (folder,) = fingerprints(tmp_path / "fastnn")
        assert len(list(folder.iterdir())) == 2

    def test_damaged_files_and_a_folder_that_goes_away(self, tmp_path):
        assert steps(NUMBA_CACHE_DIR=tmp_path) == ("1.5", True)
        (file,) = tmp_path.rglob("*.nbc")
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        assert steps(NUMBA_CACHE_DIR=tmp_path) == ("1.5", True)
        assert len(file.read_bytes()) > len(whole) // 2
        forget = "import shutil, fastnn.kernels._cache as c; fnn.sgd_update(np.ones(2), np.ones(2), 1.0)\n"
        forget += "shutil.rmtree(c.FOLDERS[0])\n" + STEP
        assert steps(code="import numpy as np, fastnn as fnn\n" + forget, NUMBA_CACHE_DIR=tmp_path) == ("1.5", True)
        assert steps(NUMBA_CACHE_DIR=tmp_path) == ("1.5", False)

    def test_a_write_that_fails_leaves_nothing(self, tmp_path, monkeypatch):
        def full(path, content):
            with path.open("wb") as file:
                file.write(content[:3])
            raise OSError(28, "No space left on device")

        _cache._replace(tmp_path / "f" / "kernel.nbc", b"before")
        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            _cache._replace(tmp_path / "f" / "kernel.nbc", b"after")
        assert [path.name for path in tmp_path.rglob("*.*")] == ["kernel.nbc"]
        assert (tmp_path / "f" / "kernel.nbc").read_bytes() == b"before"


class TestPruning:
    def test_only_fingerprints_that_nobody_uses_go(self, tmp_path):
        old = aged_folder(tmp_path, "0123456789abcdef01234567", _cache.KEEP_DAYS + 1)
        kept = [
            aged_folder(tmp_path, "f123456789abcdef01234567", _cache.KEEP_DAYS - 1),
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
        _cache.prune(tmp_path)
        assert not old.exists()
        assert all((folder / "kernel.nbc").exists() for folder in kept)
        assert file.exists()

    def test_a_folder_that_cannot_be_read_is_left_alone(self, tmp_path, monkeypatch):
        _cache.prune(tmp_path / "missing")
        aged_folder(tmp_path, "0123456789abcdef01234567", 999)

        def refuse(path, **_):
            raise PermissionError(path)

        monkeypatch.setattr(Path, "stat", refuse)
        _cache.prune(tmp_path)
