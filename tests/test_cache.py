"""What users do to the cache of compiled kernels. A stale kernel is a wrong result, an unusable folder only costs time.

Each process has folders of its own. Whether it compiled shows in its log; a process loads what it need not compile.
What does not wait for another process runs beside it.
"""

import compileall
import os
import platform
import shutil
import time
import zipfile

import llvmlite
import numba
import numpy as np
import pytest

from fastnn.kernels.compiler import cache
from fastnn.kernels.compiler.jit import kernel
from tests.processes import ROOT, finish, run, start
from tests.test_cache_files import DAY, aged_folder, needs_modes

# The kernels are tried here, whichever twin the environment chooses: once is enough.
pytestmark = pytest.mark.skipif(os.environ.get("FASTNN_BACKEND") == "numpy", reason="tries the kernels")

# w - 0.5 g: what compiles fastest, with callees in other files: the entry, the update and both functions of the rule.
STEP = """
import sys
sys.modules["scipy"] = None  # Numba would load it, for nothing here
sys.prefix = "/nowhere"

import numpy as np
import fastnn as fnn

def step(dtype):
    w = np.full(21, 2, dtype)
    fnn.sgd_update(w, np.ones(21, dtype), 0.5)
    assert len(set(w)) == 1
    return w[0]

print(*(step(dtype) for dtype in sys.argv[1:] or ["float32"]))
"""
# b + c / 4: one kernel of fastnn's, for where it is nothing which one that is.
TRIAD = """
import os, sys
sys.modules["scipy"] = None
sys.prefix = os.environ.get("PREFIX", "/nowhere")  # in which a folder for all users may lie

import numpy as np
import fastnn as fnn
from fastnn.kernels.machine import _triad

def triad(dtype):
    a, b, c = np.repeat(np.array([[0], [1], [2]], dtype), 256, axis=1)
    _triad(a, b, c, a.dtype.type(0.25), 1)
    assert len(set(a)) == 1
    return a[0]

print(*(triad(dtype) for dtype in sys.argv[1:] or ["float32"]))
"""
# One of the user's, which compiles in a moment, for where it is nothing whose it is.
HALVE = """
import sys
sys.modules["scipy"] = None
sys.prefix = "/nowhere"

import numpy as np
from fastnn.kernels.compiler.jit import kernel

@kernel
def halve(x):
    return x / 2

print(halve(np.float32(3)))
"""
COMPILING, KERNELS = "compiling kernels", 4
NOWHERE = dict.fromkeys(("NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "FASTNN_BACKEND", "PREFIX"))


def begin(package=ROOT, code=STEP, **environment):
    return start(code, package, **{**NOWHERE, **environment})


def end(*processes):
    """For each process what it printed, the result of STEP, and whether it compiled a kernel."""
    return [(out.strip(), COMPILING in err) for out, err in map(finish, processes)]


def steps(package=ROOT, code=STEP, **environment):
    return end(begin(package, code, **environment))[0]


def fingerprints(folder):
    return sorted(path for path in folder.glob("*") if path.is_dir() and len(path.name) == 24)


def kernels_in(folder):
    return sorted(folder.rglob("*.nbc"))


@pytest.fixture
def package(tmp_path):
    """A copy of the library, and beside it a home folder."""
    shutil.copytree(ROOT / "fastnn", tmp_path / "site" / "fastnn", ignore=shutil.ignore_patterns("*.gz", "*.npz"))
    return tmp_path / "site"


@pytest.fixture(scope="module")
def primed(tmp_path_factory):
    """A folder with the kernel of TRIAD, to be copied."""
    folder = tmp_path_factory.mktemp("primed")
    assert steps(code=TRIAD, NUMBA_CACHE_DIR=folder) == ("1.5", True)
    return folder


@pytest.fixture
def caches(primed, tmp_path):
    return shutil.copytree(primed, tmp_path / "caches")


def home_of(tmp_path):
    return {"HOME": tmp_path / "home", "XDG_CACHE_HOME": tmp_path / "home" / "caches", "PYTHONDONTWRITEBYTECODE": "1"}


def close(folder):
    """Make a folder that nobody can write to, not even root, whom permissions do not bind: it is a file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("")


def edit(file, before, after):
    source = file.read_bytes()
    assert source.count(before) == 1
    file.write_bytes(source.replace(before, after))


class TestFolders:
    def test_neither_home_nor_a_folder_of_the_users_choice_can_be_written(self, tmp_path):
        close(tmp_path / "home")
        close(tmp_path / "cache")
        running = begin(code=HALVE, **home_of(tmp_path)), begin(code=HALVE, NUMBA_CACHE_DIR=tmp_path / "cache")
        assert end(*running) == [("1.5", True)] * 2

    def test_a_full_disk(self, tmp_path):
        """A limit on the size of files stands for the disk: the write fails after it has begun."""
        pytest.importorskip("resource")
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        assert steps(code=limit + HALVE, NUMBA_CACHE_DIR=tmp_path) == ("1.5", True)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    @needs_modes
    def test_no_relative_path(self, tmp_path):
        """HOME unset and a user without an entry leave "~" as it is, and it would lie in any working directory."""
        nobody = """
import os, pwd

def unknown(uid):
    raise KeyError(uid)

pwd.getpwuid = unknown
"""
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{nobody}{HALVE}"
        relative = {"HOME": None, "XDG_CACHE_HOME": None}, {"XDG_CACHE_HOME": "caches"}, {"NUMBA_CACHE_DIR": "caches"}
        running = [begin(tmp_path, code, PYTHONDONTWRITEBYTECODE=1, **environment) for environment in relative]
        for out, err in map(finish, running):
            assert out == "1.5\n"
            assert "they are not kept, because" in err
            assert "is a relative path" in err
        assert list(tmp_path.iterdir()) == []

    @needs_modes
    def test_one_for_all_users(self, tmp_path):
        """Whoever primes it, all others read it and write their own, unless others than its owner can write it.

        What they read they cannot mark as used, so nothing is removed there.
        """
        prefix, homes = tmp_path / "prefix", [home_of(tmp_path / name) for name in ("one", "another")]
        unused = aged_folder(prefix / "var" / "cache" / "fastnn", "0123456789abcdef01234567", 999)
        forall = TRIAD.replace(
            "print(", "from fastnn.kernels.compiler import cache; cache.keep_for_all_users()\nprint("
        )
        assert steps(code=forall, PREFIX=prefix, **homes[0]) == ("1.5", True)
        kernels = kernels_in(prefix)
        assert (unused in {kernel.parent for kernel in kernels}, len(kernels)) == (True, 2)
        assert kernels == kernels_in(tmp_path)
        assert steps(code=TRIAD, PREFIX=prefix, **homes[1]) == ("1.5", False)
        assert kernels == kernels_in(tmp_path)
        prefix.chmod(0o777)
        assert steps(code=TRIAD, PREFIX=prefix, **homes[1]) == ("1.5", True)
        assert kernels == kernels_in(prefix)
        assert len(kernels_in(tmp_path / "another")) == 1

    @needs_modes
    def test_one_that_others_can_write(self, caches):
        """The kernels are compiled anew, and it is said why."""
        (caches / "fastnn").chmod(0o777)
        out, err = run(TRIAD, **{**NOWHERE, "NUMBA_CACHE_DIR": caches})
        assert out == "1.5\n"
        assert f"they are not kept, because others can write into {caches / 'fastnn'}" in err


class TestStaleness:
    def test_an_edit_in_another_file_than_the_caller_and_an_upgrade_of_numba(self, package, tmp_path):
        """Times becomes plus in the file of the vectors, which the file of the kernel imports; and back again.

        All of it in the user's own folder: nothing is left where fastnn is installed, or it could not be uninstalled;
        use is noted, and what nobody used for long goes.
        """
        home, file = home_of(tmp_path), package / "fastnn" / "kernels" / "simd" / "vector.py"
        caches, installed = tmp_path / "home" / "caches" / "fastnn", sorted(package.rglob("*"))
        unused = aged_folder(caches, "0123456789abcdef01234567", 999)
        upgraded = "import numba; numba.__version__ = '99.0'\n" + STEP
        assert end(begin(package, **home), begin(package, upgraded, **home)) == [("1.5", True)] * 2
        source, before = file.read_bytes(), fingerprints(caches)
        assert (unused in before, len(before)) == (False, 2)
        edit(file, b"builder.fmul(a, b, flags=FASTMATH)", b"builder.fadd(a, b, flags=FASTMATH)")
        assert steps(package, **home) == ("2.0", True)
        file.write_bytes(source)
        for folder in before:
            os.utime(folder, (0, 0))
        assert steps(package, **home) == ("1.5", False)
        assert [time.time() - folder.stat().st_mtime < DAY for folder in before].count(True) == 1
        assert [len(list(folder.iterdir())) for folder in fingerprints(caches)] == [KERNELS] * 3
        assert sorted(package.rglob("*")) == installed

    def test_installed_otherwise(self, package, tmp_path):
        """In an archive, and as bytecode alone: an edit is seen in whatever Python loads."""
        archive, bytecode = tmp_path / "site.zip", tmp_path / "bytecode"

        def steps_as_installed():
            assert compileall.compile_dir(package / "fastnn", legacy=True, quiet=1)
            with zipfile.ZipFile(archive, "w") as file:
                for source in package.rglob("*.py"):
                    file.write(source, source.relative_to(package))
            shutil.copytree(package, bytecode, ignore=shutil.ignore_patterns("*.py", "__pycache__"), dirs_exist_ok=True)
            running = []
            for place in (archive, bytecode):
                code = f"import sys; sys.path.insert(0, {str(place)!r})\n{TRIAD}assert {str(place)!r} in fnn.__file__"
                running.append(begin(tmp_path, code, **home_of(tmp_path / place.stem)))
            return end(*running)

        assert steps_as_installed() == [("1.5", True)] * 2
        assert steps_as_installed() == [("1.5", False)] * 2
        edit(package / "fastnn" / "kernels" / "machine.py", b"load(y, j)", b"load(z, j)")
        assert steps_as_installed() == [("2.5", True)] * 2

    def test_installed_so_that_it_cannot_be_read(self, tmp_path):
        """What is not known cannot be compared."""
        (tmp_path / "empty").mkdir()
        assert cache.fingerprint(tmp_path / "empty") is None
        assert cache.fingerprint(tmp_path / "missing") is None
        code = f"import importlib.resources, pathlib; empty = pathlib.Path({str(tmp_path / 'empty')!r})\n"
        code += "files = importlib.resources.files\n"
        code += "importlib.resources.files = lambda name: empty if name == 'fastnn.kernels' else files(name)\n"
        out, err = run(code + HALVE, **{**NOWHERE, **home_of(tmp_path)})
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
        assert end(*(begin(code=TRIAD, NUMBA_CACHE_DIR=tmp_path, **cpu) for cpu in cpus)) == [("1.5", True)] * 2
        assert steps(code=TRIAD, NUMBA_CACHE_DIR=tmp_path, **cpus[0]) == ("1.5", False)
        assert len(fingerprints(tmp_path / "fastnn")) == 2


def test_an_entry_point_has_no_callers_in_compiled_code():
    """Of one that is loaded there is no code to link into them."""

    @kernel
    def inner(x):
        return x

    @kernel
    def outer(x):
        return inner(x)

    with pytest.raises(TypeError, match="called from Python alone"):
        outer(1.0)


def test_a_kernel_is_kept_whatever_its_names_hold(monkeypatch, tmp_path):
    """Numba names constants after their text."""
    monkeypatch.setattr(cache, "FOLDERS", [tmp_path])

    def tell(x):
        return len('say "\\22"') + x

    first, again = kernel(tell), kernel(tell)
    assert (first(1), again(1)) == (10, 10)
    assert sum(again.stats.cache_hits.values()) == 1


class TestFilling:
    def test_two_processes_at_once(self, tmp_path):
        """Each fills in other signatures of one kernel first; a third process finds them all."""
        orders = ["float32", "float64"], ["float64", "float32"]
        codes = [f"import sys; sys.argv[1:] = {order}\n{TRIAD}" for order in orders]
        together = f"""
import pathlib, time
here = pathlib.Path({str(tmp_path)!r})
(here / sys.argv[1]).touch()
while not (here / sys.argv[2]).exists():
    time.sleep(0.001)
print("""
        running = [begin(code=code.replace("\nprint(", together), NUMBA_CACHE_DIR=tmp_path) for code in codes]
        for out, err in map(finish, running):
            assert out == "1.5 1.5\n"
            assert COMPILING in err
        assert steps(code=codes[0], NUMBA_CACHE_DIR=tmp_path) == ("1.5 1.5", False)
        (folder,) = fingerprints(tmp_path / "fastnn")
        assert len(list(folder.iterdir())) == 2

    def test_a_folder_that_goes_away(self, caches):
        """After a kernel was loaded from it; the next one is kept all the same."""
        forget = """
import shutil, fastnn.kernels.compiler.cache as c
triad("float32")
shutil.rmtree(c.FOLDERS[0])
"""
        code = TRIAD.replace("\nprint(", f"{forget}sys.argv[1:] = ['float64']\nprint(")
        assert steps(code=code, NUMBA_CACHE_DIR=caches) == ("1.5", True)
        assert len(kernels_in(caches)) == 1
        code = f"import sys; sys.argv[1:] = ['float64']\n{TRIAD}"
        assert steps(code=code, NUMBA_CACHE_DIR=caches) == ("1.5", False)

    def test_loading_takes_nothing_of_what_compiles(self, caches):
        """A good third of a first call would go into it."""
        code = f"{TRIAD}\nassert 'numba.np.arraymath' not in sys.modules"
        assert steps(code=code, NUMBA_CACHE_DIR=caches) == ("1.5", False)

    def test_a_damaged_kernel(self, caches):
        """A page of zeros in the middle of its code, which would end the process."""
        kernel = kernels_in(caches)[0]
        whole = kernel.read_bytes()
        middle = len(whole) // 2
        kernel.write_bytes(whole[: middle - 4096] + bytes(8192) + whole[middle + 4096 :])
        assert steps(code=TRIAD, NUMBA_CACHE_DIR=caches) == ("1.5", True)
        assert steps(code=TRIAD, NUMBA_CACHE_DIR=caches) == ("1.5", False)
        assert bytes(8192) not in kernel.read_bytes()
