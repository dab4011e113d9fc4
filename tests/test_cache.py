"""What users do to the cache of compiled kernels. A stale kernel is a wrong result, an unusable folder only costs time.

Each process has folders of its own. Whether it compiled shows in its log; a process loads what it need not compile.
"""

import compileall
import contextlib
import os
import pickle
import platform
import shutil
import time
import zipfile
from pathlib import Path

import llvmlite
import numba
import numpy as np
import pytest
from numba.core.registry import cpu_target

from fastnn.kernels.compiler import cache, store
from tests.processes import ROOT, finish, run, start

# The kernels are tried here, whichever twin the environment chooses: once is enough.
pytestmark = pytest.mark.skipif(os.environ.get("FASTNN_BACKEND") == "numpy", reason="tries the kernels")

# w - 0.5 g: what compiles fastest, with callees in other files: the entry, the update and both functions of the rule.
STEP = """
import os, sys
sys.modules["scipy"] = None  # Numba would load it, for nothing here
sys.prefix = os.environ.get("PREFIX", "/nowhere")  # in which a folder for all users may lie

import numpy as np
import fastnn as fnn

def step(dtype):
    w = np.full(21, 2, dtype)
    fnn.sgd_update(w, np.ones(21, dtype), 0.5)
    assert len(set(w)) == 1
    return w[0]

print(*(step(dtype) for dtype in sys.argv[1:] or ["float32"]))
"""
COMPILING, KERNELS = "compiling kernels", 4
NOWHERE = dict.fromkeys(("NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "FASTNN_BACKEND", "PREFIX"))
DAY = 24 * 3600

needs_modes = pytest.mark.skipif(os.name != "posix", reason="only POSIX says who may write")


def steps(package=ROOT, code=STEP, **environment):
    """The result of STEP in a new process, and whether that compiled a kernel."""
    out, err = run(code, package, **{**NOWHERE, **environment})
    return out.strip(), COMPILING in err


def fingerprints(folder):
    return sorted(path for path in folder.glob("*") if path.is_dir() and len(path.name) == 24)


def kernels_in(folder):
    return sorted(folder.rglob("*.nbc"))


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


def add_instead(file):
    """Make a plus of the times in a file of vectors."""
    source, times = file.read_bytes(), b"builder.fmul(a, b, flags=FASTMATH)"
    assert source.count(times) == 1
    file.write_bytes(source.replace(times, b"builder.fadd(a, b, flags=FASTMATH)"))


class TestFolders:
    def test_the_users_own(self, package, tmp_path):
        """Nothing is left where fastnn is installed, or it could not be uninstalled; use is noted, old kernels go."""
        installed = sorted(package.rglob("*"))
        unused = aged_folder(tmp_path / "home" / "caches" / "fastnn", "0123456789abcdef01234567", 999)
        assert steps(package, **home_of(tmp_path)) == ("1.5", True)
        (folder,) = fingerprints(tmp_path / "home" / "caches" / "fastnn")
        assert folder != unused
        assert sorted(package.rglob("*")) == installed
        os.utime(folder, (0, 0))
        assert steps(package, **home_of(tmp_path)) == ("1.5", False)
        assert time.time() - folder.stat().st_mtime < DAY

    def test_no_home_can_be_written(self, tmp_path):
        close(tmp_path / "home")
        assert steps(**home_of(tmp_path)) == ("1.5", True)

    def test_a_folder_of_the_users_choice_that_cannot_be_written(self, tmp_path):
        close(tmp_path / "cache")
        assert steps(NUMBA_CACHE_DIR=tmp_path / "cache") == ("1.5", True)

    def test_a_full_disk(self, tmp_path):
        """A limit on the size of files stands for the disk: the write fails after it has begun."""
        pytest.importorskip("resource")
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        assert steps(code=limit + STEP, NUMBA_CACHE_DIR=tmp_path) == ("1.5", True)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    @needs_modes
    @pytest.mark.parametrize(
        "environment",
        [
            {"HOME": None, "XDG_CACHE_HOME": None},
            {"XDG_CACHE_HOME": "caches"},
            {"NUMBA_CACHE_DIR": "caches"},
        ],
        ids=str,
    )
    def test_no_relative_path(self, environment, tmp_path):
        """HOME unset and a user without an entry leave "~" as it is, and it would lie in any working directory."""
        nobody = """
import os, pwd

def unknown(uid):
    raise KeyError(uid)

pwd.getpwuid = unknown
"""
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{nobody}{STEP}"
        out, err = run(code, tmp_path, **{**NOWHERE, "PYTHONDONTWRITEBYTECODE": 1, **environment})
        assert (out, list(tmp_path.iterdir())) == ("1.5\n", [])
        assert "they are not kept, because" in err
        assert "is a relative path" in err

    @needs_modes
    def test_one_for_all_users(self, tmp_path):
        """Whoever primes it, all others read it and write their own, unless others than its owner can write it.

        What they read they cannot mark as used, so nothing is removed there.
        """
        prefix, homes = tmp_path / "prefix", [home_of(tmp_path / name) for name in ("one", "another")]
        unused = aged_folder(prefix / "var" / "cache" / "fastnn", "0123456789abcdef01234567", 999)
        forall = STEP.replace("print(", "from fastnn.kernels.compiler import cache; cache.keep_for_all_users()\nprint(")
        assert steps(code=forall, PREFIX=prefix, **homes[0]) == ("1.5", True)
        kernels = kernels_in(prefix)
        assert (unused in {kernel.parent for kernel in kernels}, len(kernels)) == (True, 1 + KERNELS)
        assert kernels == kernels_in(tmp_path)
        assert steps(PREFIX=prefix, **homes[1]) == ("1.5", False)
        assert kernels == kernels_in(tmp_path)
        prefix.chmod(0o777)
        assert steps(PREFIX=prefix, **homes[1]) == ("1.5", True)
        assert kernels == kernels_in(prefix)
        assert len(kernels_in(tmp_path / "another")) == KERNELS

    @needs_modes
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

    def test_the_kernels(self, tmp_path):
        """They are compiled anew, and it is said why."""
        assert steps(NUMBA_CACHE_DIR=tmp_path) == ("1.5", True)
        (tmp_path / "fastnn").chmod(0o777)
        out, err = run(STEP, **{**NOWHERE, "NUMBA_CACHE_DIR": tmp_path})
        assert out == "1.5\n"
        assert f"they are not kept, because others can write into {tmp_path / 'fastnn'}" in err


class TestStaleness:
    def test_an_edit_in_another_file_than_the_caller_and_an_upgrade_of_numba(self, package, tmp_path):
        """Times becomes plus in the file of the vectors, which the file of the kernel imports; and back again."""
        home, file = home_of(tmp_path), package / "fastnn" / "kernels" / "simd" / "vector.py"
        assert steps(package, **home) == ("1.5", True)
        assert steps(package, "import numba; numba.__version__ = '99.0'\n" + STEP, **home) == ("1.5", True)
        source = file.read_bytes()
        add_instead(file)
        assert steps(package, **home) == ("2.0", True)
        file.write_bytes(source)
        assert steps(package, **home) == ("1.5", False)
        folders = fingerprints(tmp_path / "home" / "caches" / "fastnn")
        assert [len(list(folder.iterdir())) for folder in folders] == [KERNELS] * 3

    @pytest.mark.parametrize("kind", [".py", ".pyc"], ids=["an archive", "bytecode alone"])
    def test_installed_otherwise(self, kind, package, tmp_path):
        """An edit is seen in whatever Python loads."""

        def steps_as_installed():
            place = tmp_path / ("site.zip" if kind == ".py" else "installed")
            assert compileall.compile_dir(package / "fastnn", legacy=True, force=True, quiet=1)
            with zipfile.ZipFile(tmp_path / "site.zip", "w") as archive:
                for file in package.rglob(f"*{kind}"):
                    archive.write(file, file.relative_to(package))
                if kind == ".pyc":
                    archive.extractall(place)
            code = f"import sys; sys.path.insert(0, {str(place)!r})\n{STEP}"
            return steps(tmp_path, f"{code}assert {str(place)!r} in fnn.__file__", **home_of(tmp_path))

        assert steps_as_installed() == ("1.5", True)
        assert steps_as_installed() == ("1.5", False)
        add_instead(package / "fastnn" / "kernels" / "simd" / "vector.py")
        assert steps_as_installed() == ("2.0", True)

    def test_installed_so_that_it_cannot_be_read(self, tmp_path):
        """What is not known cannot be compared."""
        (tmp_path / "empty").mkdir()
        assert cache.fingerprint(tmp_path / "empty") is None
        assert cache.fingerprint(tmp_path / "missing") is None
        code = f"import importlib.resources, pathlib; empty = pathlib.Path({str(tmp_path / 'empty')!r})\n"
        code += "files = importlib.resources.files\n"
        code += "importlib.resources.files = lambda name: empty if name == 'fastnn.kernels' else files(name)\n"
        out, err = run(code + STEP, **{**NOWHERE, **home_of(tmp_path)})
        assert out == "1.5\n"
        assert "they are not kept, because the files of fastnn cannot be read" in err
        assert not kernels_in(tmp_path)

    def test_a_new_version_of_fastnn(self, tmp_path):
        """Whatever changed, in whichever file, a file that was renamed included."""
        kernels = tmp_path / "kernels"
        shutil.copytree(ROOT / "fastnn" / "kernels", kernels, ignore=shutil.ignore_patterns("__pycache__"))
        found = [cache.fingerprint(kernels)]
        assert found == [cache.FINGERPRINT]
        for path in kernels.rglob("*.py"):
            path.write_bytes(path.read_bytes() + b"\n")
            found.append(cache.fingerprint(kernels))
        path.rename(path.with_name("renamed.py"))
        found.append(cache.fingerprint(kernels))
        (kernels / "folder").mkdir()
        (kernels / "folder" / "another.py").write_text("")
        found.append(cache.fingerprint(kernels))
        assert len(set(found)) == len(found) > 15

    @pytest.mark.parametrize("module", [numba, llvmlite, np], ids=lambda module: module.__name__)
    def test_whatever_is_upgraded(self, module, monkeypatch):
        before = cache.fingerprint()
        assert before == cache.fingerprint() == cache.FINGERPRINT
        monkeypatch.setattr(module, "__version__", "99.0")
        assert cache.fingerprint() != before

    @pytest.mark.parametrize(("option", "value"), [("BOUNDSCHECK", 1), ("OPT", 0), ("SLP_VECTORIZE", 1)])
    def test_options_of_the_compiler(self, option, value, monkeypatch):
        monkeypatch.setattr(numba.config, option, value)
        assert cache.fingerprint() != cache.FINGERPRINT

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
        assert len(list(folder.iterdir())) == 2 * KERNELS - 2  # for both the same: the entry, what prepares an update

    def test_a_folder_that_goes_away(self, tmp_path):
        forget = "import shutil, fastnn.kernels.compiler.cache as c; fnn.sgd_update(np.ones(2), np.ones(2), 1.0)\n"
        forget += "shutil.rmtree(c.FOLDERS[0])\n" + STEP
        assert steps(code="import numpy as np, fastnn as fnn\n" + forget, NUMBA_CACHE_DIR=tmp_path) == ("1.5", True)
        # The entry of all dtypes went with the folder.
        assert [steps(NUMBA_CACHE_DIR=tmp_path) for _ in range(2)] == [("1.5", True), ("1.5", False)]

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


class TestDamage:
    def test_a_kernel(self, tmp_path):
        """A page of zeros in the middle of its code, which would end the process."""
        assert steps(NUMBA_CACHE_DIR=tmp_path) == ("1.5", True)
        kernel = kernels_in(tmp_path)[0]
        whole = kernel.read_bytes()
        middle = len(whole) // 2
        kernel.write_bytes(whole[: middle - 4096] + bytes(8192) + whole[middle + 4096 :])
        assert steps(NUMBA_CACHE_DIR=tmp_path) == ("1.5", True)
        assert steps(NUMBA_CACHE_DIR=tmp_path) == ("1.5", False)
        assert bytes(8192) not in kernel.read_bytes()

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
        kept = cache.Cache(steps)
        kernel = cache.FOLDERS[0] / kept.file_name("signature")
        store.write(kernel, pickle.dumps(Trap()))
        if not verified:
            kernel.write_bytes(pickle.dumps(Trap()))
        assert kept.load_overload("signature", cpu_target.target_context) is None
        assert (tmp_path / "sprung").exists() == verified


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
