"""How Python calls compiled functions on arrays: what passes the quick way, what does not, and what is left behind."""

import gc
import os
import sys
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn import kernels
from fastnn.kernels import entries
from fastnn.kernels.builtin import KINDS, LENT
from fastnn.kernels.entries import quick
from tests.cases import LAYOUTS
from tests.processes import run


@pytest.fixture(autouse=True)
def compiled(dtype):
    """The functions called below, on the backend that has them."""
    x = np.ones((3, 3), dtype)
    kernels.matmul(x, x, x.copy())
    kernels.relu(x, x.copy())
    kernels.elu(x, 1.0, x.copy())
    kernels.softmax(x, x.copy())
    kernels.sgd_update(x.copy(), x, 0.1)
    with fnn.use_backend("numba"):
        yield


class Array(np.ndarray):
    pass


def odd(x):
    """The arrays that are not plain, by name."""
    misaligned = np.frombuffer(b" " + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    packed = np.zeros(x.shape, [("x", x.dtype), ("rest", "u1")])["x"]
    other = np.float64 if x.dtype == np.float32 else np.float32
    return {
        "subclass": x.view(Array),
        "masked": np.ma.array(x),
        "list": x.tolist(),
        "none": None,
        "number": 1.0,
        "other dtype": x.astype(other),
        "integers": x.astype(np.int64),
        "objects": x.astype(object),
        "foreign bytes": x.astype(x.dtype.newbyteorder()),
        "misaligned": misaligned,
        "packed records": packed,
        "three dimensions": x[None],
        "one dimension": x[0],
        "no dimension": x[0, 0].reshape(()),
    }


def test_what_is_not_plain_is_left_alone(dtype, rng):
    x = rng.normal(size=(4, 4)).astype(dtype)
    for name, value in odd(x).items():
        out = np.full((4, 4), 7, dtype)
        for given in (value, x), (x, value), (x, value, out), (value, x, out):
            assert quick.matmul(*given) is None, name
        assert quick.matmul(x, x, value) is None, name
        assert quick.softmax(value) is None or name == "other dtype", name
        np.testing.assert_array_equal(out, 7)


def test_what_does_not_fit_is_left_alone(dtype):
    x, w = np.ones((3, 4), dtype), np.ones((4, 5), dtype)
    kept = np.full((3, 5), 7, dtype)
    locked = kept.copy()
    locked.flags.writeable = False
    columns = np.full((3, 10), 7, dtype)[:, ::2]
    for given in [
        (),
        (x,),
        (x, w, kept, kept),
        (x, x),
        (w, x),
        (x, w, kept[:2]),
        (x, w, kept[:, :4]),
        (x, w, locked),
        (x, w, columns),
        (x, w, kept.T),
    ]:
        assert quick.matmul(*given) is None
    for rate in (0.0, -1.0, np.inf, np.nan, 1, np.float32(1), "1", None):
        assert quick.sgd_update(kept, kept.copy(), rate) is None
    for slope in (-1.0, np.inf, np.nan, 1):
        assert quick.elu(x, slope) is None
    assert quick.sgd_update(kept, kept, 0.1) is None
    assert quick.sgd_update(kept, kept.copy(), 0.1, kept) is None
    assert quick.sgd_update(kept, kept.T, 0.1) is None
    assert quick.relu_backward(x, x.T.copy()) is None
    assert quick.softmax(np.ones((3, 0), dtype)) is None
    np.testing.assert_array_equal(kept, 7)
    np.testing.assert_array_equal(columns, 7)


@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_every_layout_gives_the_same_bits(left, right, rng, dtype, tmp_path):
    """The quick way where it can be gone, else the slow one."""
    a, b = rng.integers(-8, 8, (2, 9, 9)).astype(dtype)
    result = fnn.matmul(LAYOUTS[left](a, tmp_path), LAYOUTS[right](b, tmp_path))
    np.testing.assert_array_equal(result, a.astype(int) @ b.astype(int))


@pytest.mark.parametrize("start", range(0, 30, 3))
def test_out_that_overlaps_an_operand(start, rng, dtype):
    memory = rng.integers(-8, 8, 40).astype(dtype)
    a, out = memory[12:24].reshape(3, 4)[:, ::-1], memory[start : start + 9].reshape(3, 3)
    b = rng.integers(-8, 8, (4, 3)).astype(dtype)
    expected = a.astype(int) @ b.astype(int)
    overlaps = start < 24 and start + 9 > 12
    assert (quick.matmul(a, b, out) is None) == overlaps
    if overlaps:
        assert fnn.matmul(a, b, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_no_reference_is_lost_or_kept(dtype):
    x, refused = np.ones((5, 5), dtype), np.ones((5, 4), dtype)
    out = np.empty_like(x)
    made = quick.matmul(x, x)
    assert sys.getrefcount(made) == sys.getrefcount(out)

    def counts():
        gc.collect()
        return [sys.getrefcount(thing) for thing in (x, out, refused, x.dtype, None, np.ndarray, 0.5)]

    def calls():
        for _ in range(200):
            quick.matmul(x, x)
            quick.matmul(x, x, out)
            quick.matmul(x, refused.T)
            quick.matmul(x, refused, out)
            quick.relu(x)
            quick.softmax(x)
            quick.sgd_update(out, x, 0.5)
            quick.sgd_update(out, x, None)

    calls()
    before = counts()
    calls()
    assert np.abs(np.subtract(counts(), before)).max() < 50


def test_a_workspace_that_is_lent_is_not_lent_again(dtype, rng):
    x = rng.integers(-8, 8, (6, 6)).astype(dtype)
    entries._common[LENT:KINDS] = 1
    try:
        assert quick.matmul(x, x) is None
        np.testing.assert_array_equal(fnn.matmul(x, x), x @ x)
        assert quick.relu(x) is not None
    finally:
        entries._common[LENT:KINDS] = 0
    assert quick.matmul(x, x) is not None
    assert not entries._common[LENT:KINDS].any()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_has_the_workspace_to_itself(dtype):
    x = np.ones((6, 6), dtype)
    entries._common[LENT:KINDS] = 1
    child = os.fork()
    if child == 0:
        os._exit(0 if quick.matmul(x, x) is not None else 1)
    entries._common[LENT:KINDS] = 0
    assert os.waitpid(child, 0)[1] == 0


def test_threads_at_once(dtype, rng):
    """Calls short and long, with the GIL and without: whoever finds the workspace lent goes the slow way."""
    short, long = rng.integers(-4, 4, (2, 20, 20)).astype(dtype), rng.integers(-4, 4, (2, 110, 110)).astype(dtype)
    expected = short[0] @ short[1], long[0] @ long[1]
    wrong = []

    def work():
        for _ in range(100):
            for (a, b), right in zip((short, long), expected, strict=True):
                if not np.array_equal(fnn.matmul(a, b), right):
                    wrong.append(len(a))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_builtin_outlives_its_entry(dtype):
    """In a process that overwrites whatever memory it frees, and whose garbage collector looks at all builtins."""
    code = f"""
import gc
import numpy as np
from fastnn.kernels.builtin import LIKE_FIRST, REALS
from fastnn.kernels.entries import READ, Entry, quick
from fastnn.kernels.matmul import _matmul

x = np.full((2, 2), 3, "{np.dtype(dtype).name}")
entry = Entry("made", _matmul, [(REALS, READ), (REALS, READ)], LIKE_FIRST, works=True)
entry(x, x, np.empty_like(x))
call, entry, quick.made = entry.call, None, None
gc.collect()
print(call.__name__, call(x, x).tolist())
call = None
gc.collect()
"""
    out = run(code, PYTHONMALLOC="debug", FASTNN_BACKEND="numba")[0]
    assert out == "made [[18.0, 18.0], [18.0, 18.0]]\n"


def test_memory_that_there_is_not(dtype):
    with pytest.raises(MemoryError):
        fnn.matmul(np.empty((10**8, 0), dtype), np.empty((0, 10**8), dtype))
    assert not entries._common[LENT:KINDS].any()
    assert quick.matmul(np.empty((2, 0), dtype), np.empty((0, 3), dtype)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_a_kernel_does_not_pass_over_what_it_cannot_take(dtype):
    x = np.ones((4, 6), dtype)
    with pytest.raises(TypeError, match="relu got arguments that no kernel takes"):
        kernels.relu(x[:, ::2], np.empty((4, 3), dtype))


def test_a_python_that_keeps_arrays_in_another_way(monkeypatch):
    for name in ("SHAPE", "STRIDES", "DTYPE"):
        with monkeypatch.context() as patch:
            patch.setattr(entries, name, entries.ELEMENTS)  # whose words can be read
            with pytest.raises(ImportError, match="keep arrays in another way than the kernels know: take releases"):
                entries._check_layout()
    entries._check_layout()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_through_a_network(value, dtype, rng):
    model = fnn.Sequential(fnn.Linear(4, 5), fnn.ReLU(), fnn.Linear(5, 3), dtype=dtype, seed=0)
    x = rng.normal(size=(2, 4)).astype(dtype)
    with fnn.use_backend("numpy"):
        assert model.predict_proba(x).shape == (2, 3)
        assert model._stack._ready == [None, None]
    slow = model.predict_proba(x)
    assert model._stack._ready[True] is not None
    np.testing.assert_array_equal(model.predict_proba(x), slow)
    np.testing.assert_array_equal(model.predict_proba(x.astype(np.longdouble)), slow)
    whole = np.rint(3 * x)
    np.testing.assert_array_equal(model.predict_proba(whole.astype(np.int64)), model.predict_proba(whole))
    model.layers[0].bias[...] += 1
    assert not np.array_equal(model.predict_proba(x), slow)
    with pytest.raises(ValueError, match="X has 3 columns, but the model has 4 inputs"):
        model.forward(x[:, :3])
    with pytest.raises(ValueError, match="X is empty"):
        model.forward(x[:0])
    x[1, 2] = value
    with pytest.raises(ValueError, match="X holds NaN or infinite values"):
        model.forward(x)
