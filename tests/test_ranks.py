"""``fit`` with ``comm=``, in processes that mpiexec starts: see tests.ranks for what they do."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fnn
from fastnn.training.stripes import Stripes, dealt
from tests.processes import ROOT


def mpiexec():
    pytest.importorskip("mpi4py")
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    return shutil.which("mpiexec", path=path) or pytest.skip("there is no mpiexec")


@functools.cache
def launched(ranks, *scenarios, **environment):
    """What the scenarios found with so many ranks, or what was printed where they failed."""
    command = [mpiexec(), "-n", str(ranks), sys.executable, "-m", "tests.ranks", *scenarios]
    variables = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120)
    if done.returncode:
        return done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def of_all(ranks):
    """The scenarios that need no launch of their own, at once."""
    more = {
        1: ["stripes"],
        2: ["stripes", "unlike"],
        3: ["refused", "raising", "meeting", "interrupted"],
        4: ["stripes"],
    }
    names = ["united", "histories", "averaged", "sums", *more[ranks]]
    found = launched(ranks, *names)
    assert isinstance(found, dict), found
    return found


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_the_result_is_that_of_one_process_on_the_batches_united(ranks):
    for name, (error, is_same, steps) in of_all(ranks)["united"].items():
        assert error < 1e-13, name
        assert is_same, name
        assert steps, name


def test_the_bits_do_not_depend_on_how_many_hold_the_stripes():
    expected = of_all(1)["stripes"]
    assert len(set(expected.values())) == len(expected) == 9
    for ranks in (2, 4):
        assert of_all(ranks)["stripes"] == expected
    assert launched(8, "stripes")["stripes"] == expected


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_sums_are_those_of_one_tree(ranks):
    assert of_all(ranks)["sums"] == [True] * 3


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_values_callbacks_and_interruptions_agree(ranks):
    found = of_all(ranks)["histories"]
    assert max(found.pop("values")) < 1e-12
    assert found.pop("f1") < 1e-12
    assert found.pop("mean") < 1e-12
    assert found.pop("classes") == ["a", "b", "c"]
    assert all(found.values()), found


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_means_of_parameters_after_an_epoch(ranks):
    for name, found in of_all(ranks)["averaged"].items():
        if name.endswith("learns"):
            assert found, name
        else:
            error, is_same = found
            assert error < 1e-14, name
            assert is_same, name


REFUSED = {
    "batch_size": "ValueError: batch_size is 8 on rank 2, but 16 on rank 0: it must be the same on all ranks",
    "loss": r"ValueError: loss is 'CrossEntropy\(label_smoothing=0.1\)' on rank 2",
    "optimizer": r"ValueError: optimizer is \['SGD', 0.9, None\] on rank 2, but \['SGD', None\] on rank 0",
    "lr": "ValueError: lr is 0.02 on rank 2, but 0.01 on rank 0",
    "dtype of X": r"ValueError: X \(its dtype\) is 'float32' on rank 2, but 'float64' on rank 0",
    "dtype of y": r"ValueError: y \(its dtype\) is 'int32' on rank 2, but 'int64' on rank 0",
    "weights": r"ValueError: sample_weight \(whether it is given\) is True on rank 2, but False on rank 0",
    "validation": r"ValueError: validation_data \(whether it is given\) is True on rank 2, but False on rank 0",
    "stripes": "ValueError: (rank 2: )?stripes is 8 for 3 ranks",
    "nan": r"ValueError: (rank 2: )?X holds NaN or infinite values",
    "label": r"ValueError: (rank 2: )?y holds label [345], but the model has 3 outputs",
    "columns": r"ValueError: (rank 2: )?X has 5 columns, but the model has 6 inputs",
    "no stripes": "ValueError: stripes is 6 for 3 ranks, expected a power of two that the ranks divide, such as 8",
    "rows of stripes": "ValueError: stripes is 8 for 3 ranks, expected a power of two that the ranks divide",
    "source": "ValueError: comm is given with a source or its buffer, but takes arrays: give each rank its samples",
    "buffer": "ValueError: comm is given with a source or its buffer, but takes arrays",
    "split": "ValueError: validation_split and comm are both given: set the samples aside beforehand",
    "sync": "ValueError: sync is 'never', expected 'step' or 'epoch'",
    "no samples": "ValueError: X is empty on all ranks: expected at least one sample",
    "no validation": "ValueError: X of validation_data is empty on all ranks",
    "no weights": "ValueError: sample_weight sums to zero over all ranks",
    "rows of y": "ValueError: (rank 2: )?y has 2 rows, but there are 0 samples",
    "no pair": r"TypeError: validation_data is not a pair, expected \(X, y\)",
    "no sequence": r"TypeError: validation_data is not a pair, expected \(X, y\)",
    "small shares": r"ValueError: stripe 0 has 21 samples, which leaves 1 to its last batch, but BatchNorm",
    "no group": "ValueError: comm is .*, expected one group of processes, such as MPI.COMM_WORLD",
    "version": "ValueError: version of fastnn is '0.0' on rank 2, but .* on rank 0: it must be the same on all ranks",
    "backend": "ValueError: backend is 'numpy' on rank 2, but 'numba' on rank 0",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_differs_or_is_wrong_is_told_on_every_rank(name):
    for told, unchanged, _ in of_all(3)["refused"][name]:
        assert re.match(REFUSED[name], told), told
        assert unchanged


def test_every_refusal_is_expected():
    assert of_all(3)["refused"].keys() == REFUSED.keys()


def test_a_rank_that_raises_ends_all_of_them():
    found, diverged = of_all(3)["raising"], fnn.DivergenceError(0, 0, 1)
    expected = {
        "ValueError": ("ValueError: rank 2: as a user's code may", "ValueError: as a user's code may"),
        "OSError": ("RankError: rank 2 raised OSError: as a user's code may", "OSError: as a user's code may"),
        "KeyboardInterrupt": (
            "RankError: rank 2 raised KeyboardInterrupt: as a user's code may",
            "KeyboardInterrupt: as a user's code may",
        ),
        "callback": ("RankError: rank 2 raised RuntimeError: in a callback", "RuntimeError: in a callback"),
        "one's divergence": (f"RankError: rank 2 raised DivergenceError: {diverged}", f"DivergenceError: {diverged}"),
        "no message": ("RankError: rank 2 raised Unprintable", "Unprintable"),
        "long": (f"RankError: rank 2 raised OSError: {'a' * 1000}...", f"OSError: {'a' * 1091}"),
        "exit": ("RankError: rank 2 raised SystemExit: 0", "SystemExit: 0"),
    }
    for name, results in found.items():
        if name != "divergence":
            others, own = expected[name.partition(",")[0]]
            assert [told for told, *_ in results] == [others, others, own]
            epochs = 1 if "," in name else 2
            assert [state for _, state, _ in results] == [[epochs, True]] * 3
    assert {told[:34] for told, *_ in found["divergence"]} == {"DivergenceError: training diverged"}
    assert [state for _, state, _ in found["divergence"]] == [[0, True]] * 3


def test_a_rank_that_raises_before_all_have_met_tells_the_others():
    expected = {
        "before": ["RankError: rank 2 raised MemoryError: no room"] * 2 + ["MemoryError: no room"],
        "while": ["RankError: rank 2 raised KeyboardInterrupt: now"] * 2 + ["KeyboardInterrupt: now"],
        "none": [None] * 3,
    }
    for name, results in of_all(3)["meeting"].items():
        assert [told for told, _ in results] == expected[name]


def test_what_mpi_writes_to_outlives_ctrl_c():
    (told, kept), (_, also_kept), _ = found = of_all(3)["interrupted"]
    assert told == "KeyboardInterrupt"
    assert [told for told, _ in found[1:]] == ["RankError"] * 2
    assert kept
    assert also_kept


def test_a_killed_job_goes_on_with_other_ranks(tmp_path):
    """To the same bits where there are stripes."""
    broken = {"NET": "batch norm", "CHECKPOINT": str(tmp_path / "broken.npz"), "FASTNN_BACKEND": "numpy"}
    whole = launched(1, "surviving", **{**broken, "CHECKPOINT": str(tmp_path / "whole.npz")})
    assert isinstance(launched(4, "surviving", DIES_AFTER="3", **broken), str)
    assert isinstance(launched(2, "surviving", DIES_AFTER="5", **broken), str)
    assert launched(2, "surviving", **broken)["surviving"] == whole["surviving"]


def test_without_stripes_a_job_goes_on_as_well(tmp_path):
    path = str(tmp_path / "broken.npz")
    broken = {"NET": "plain", "CHECKPOINT": path, "STRIPES": "none", "FASTNN_BACKEND": "numpy"}
    assert isinstance(launched(3, "surviving", DIES_AFTER="3", **broken), str)
    losses = launched(2, "surviving", **broken)["surviving"]["loss"]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_rows_that_are_no_stripes():
    """Two ranks that hold what is not half of the samples each."""
    for told in of_all(2)["unlike"]:
        assert told.startswith(
            "ValueError: X has 10 rows on rank 0, but with stripes=8 it holds 15 of the 30 samples: give each rank what"
        )


def test_the_program_of_the_guide(tmp_path):
    page = (ROOT / "docs" / "guide" / "clusters.md").read_text(encoding="utf-8")
    code, printed = re.search(r"<!-- mpi:begin -->\n```py\n(.*?)```\n\n```text\n(.*?)```", page, re.S).groups()
    (tmp_path / "train.py").write_text(code, encoding="utf-8")
    command = [mpiexec(), "-n", "4", sys.executable, "-m", "mpi4py", str(tmp_path / "train.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == printed, done.stderr


@pytest.mark.parametrize("comm", [3, "MPI.COMM_WORLD", object()], ids=lambda comm: type(comm).__name__)
def test_what_is_no_communicator(comm):
    model = fnn.Sequential(fnn.Linear(2, 2))
    for call in (lambda: model.fit(np.ones((3, 2)), [0, 1, 0], comm=comm), lambda: fnn.rank_rows(10, comm)):
        with pytest.raises(TypeError, match=r"comm is .*, expected a communicator of mpi4py, such as MPI.COMM_WORLD"):
            call()


@pytest.mark.parametrize("settings", [{"stripes": 8}, {"sync": "epoch"}], ids=repr)
def test_what_says_nothing_to_one_process(settings):
    with pytest.raises(ValueError, match=r"is given without comm: it says how the processes of a communicator work"):
        fnn.Sequential(fnn.Linear(2, 2)).fit(np.ones((3, 2)), [0, 1, 0], **settings)


def test_batches_take_of_all_stripes_their_share(rng):
    """As the samples come where each stands at (j + 1/2) / n of the epoch."""
    for _ in range(300):
        sizes, batch_size = rng.integers(0, 40, rng.integers(1, 9)), int(rng.integers(1, 20))
        if not sizes.any():
            continue
        places = sorted(((2 * j + 1) / (2 * n), s) for s, n in enumerate(sizes.tolist()) for j in range(n))
        expected = [
            np.bincount([s for _, s in places[start : start + batch_size]], minlength=len(sizes))
            for start in range(0, len(places), batch_size)
        ]
        np.testing.assert_array_equal(np.diff(dealt(sizes, batch_size), axis=0), expected)


def test_stripes_do_not_depend_on_who_holds_them():
    sizes = [5, 0, 7, 6]
    whole, halves = Stripes(sizes, 0, 4, 4), [Stripes(sizes, 0, 2, 4), Stripes(sizes, 2, 2, 4)]
    for part in (whole, *halves):
        part.shuffle(77)
    before = [0, 0, 5, 5]
    for number in range(5):
        together = whole.batch(number)
        apart = [entry for half in halves for entry in half.batch(number)]
        assert [at for _, at in together] == [at for _, at in apart]
        for (rows, _), (own, _), start in zip(together, apart, before, strict=True):
            np.testing.assert_array_equal(rows, own + start)
    orders = np.concatenate([whole.order(i) for i in range(4)])
    np.testing.assert_array_equal(np.sort(orders), np.arange(18))
    assert (orders != np.arange(18)).any()
