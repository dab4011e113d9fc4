"""Networks side by side: every bit is that of ``train_epoch`` alone, whatever trains in the other lanes."""

import numpy as np
import pytest

from fastnn import kernels, reference
from fastnn.nn.lowering import Objective, OptimizerSpec, Reduction
from fastnn.training.together import Request
from tests.cases import LAYOUTS, NETWORKS, each_pair
from tests.networks import RULES, SCALED, batches, build, frozen, problem, rule

LOSS_OF = {"labels": "cross_entropy", "soft": "cross_entropy", "squared": "squared_error", "any": "huber"}
SKLEARN = Reduction(1e-3, 3.0, value=0.5, gradient=0.25, penalty_per_batch=True, mean_over_rows=True, stop=False)
TARGETS = {"cross_entropy": "labels", "squared_error": "values", "absolute_error": "values", "pinball": "values"}
TARGETS |= {"bounded_binary_cross_entropy": "binary", "binary_cross_entropy": "binary"}
TARGETS |= {"poisson_deviance": "counts", "poisson": "counts"}
SMALL = (13, [17, "relu", (33, False), ("leaky_relu", 0.1), 5])
# The networks whose layers are not too wide for lanes.
_WIDE = "past the cache blocks", "more outputs than a block of gradients"
NARROW = {name: case for name, case in NETWORKS.items() if name not in _WIDE}


@pytest.fixture(autouse=True)
def by_multiply_adds(monkeypatch):
    """Networks too large to gain side by side are put there all the same; alone they might use the matrix unit."""
    for module in ("epoch", "inference"):
        monkeypatch.setattr(f"fastnn.kernels.network.{module}.level_of_unit", lambda dtype: "")


def jobs_of(network, params, x, y, goals, name, rng, batch_size=8, weights=None, lr=0.02, epochs=2):
    """A job for each objective: its own parameters, order, number of samples, learning rate and number of epochs."""
    made = []
    for k, goal in enumerate(goals):
        own = (params * rng.uniform(0.5, 1.5, len(params))).astype(params.dtype)
        order = rng.permutation(len(x))[: len(x) - k % 3]
        spec = rule(name, own, lr * (1 + k / 10))
        data = [batches(x, y, batch_size, weights, rng.permutation(order)) for _ in range(1 + (k + epochs) % epochs)]
        steps = -(-len(order) // batch_size)
        rules = [spec._replace(step=3 + k + steps * i) for i in range(len(data))]
        made.append(Request(network._replace(seed=k), own, tuple(data), goal, tuple(rules)))
    return made


def copied(job):
    rules = [spec._replace(slots=job.rules[0].slots.copy()) for spec in job.rules[:1]]
    return job._replace(params=job.params.copy(), rules=tuple(s._replace(slots=rules[0].slots) for s in job.rules))


def alone(job):
    """The losses of each epoch, the parameters and the slots of a job that ``train_epoch`` does."""
    job = copied(job)
    losses = []
    for data, spec in zip(job.batches, job.rules, strict=True):
        loss, failed = kernels.train_epoch(job.network, job.params, data, job.objective, spec)
        losses.append(loss)
        if failed >= 0:
            break
    return losses, failed, job.params, job.rules[0].slots


def in_lanes(jobs):
    """What ``train_lanes`` returns for any number of jobs, as many at once as there are lanes."""
    most = kernels.count_lanes(jobs[0].params.dtype)
    return [
        trained for start in range(0, len(jobs), most) for trained in kernels.train_lanes(jobs[start : start + most])
    ]


def assert_same_bits(jobs):
    """Train in lanes, and compare with each alone."""
    expected = [alone(job) for job in jobs]
    together = [copied(job) for job in jobs]
    assert len({kernels.lane_key(job) for job in together}) == 1
    assert kernels.lane_key(together[0]) is not None
    for job, (losses, went_well), (wanted, failed, params, slots) in zip(
        together, in_lanes(together), expected, strict=True
    ):
        assert went_well
        assert failed == -1
        assert losses == wanted
        np.testing.assert_array_equal(job.params, params)
        np.testing.assert_array_equal(job.rules[0].slots, slots)


def goals(loss, count, **numbers):
    return [Objective(loss, 0.01 * (k % 3), **numbers) for k in range(count)]


@pytest.mark.parametrize(("case", "name", "targets"), each_pair(NARROW, RULES, [*LOSS_OF]))
def test_every_network_loss_and_rule(case, targets, name, rng, dtype):
    """Each network with each rule, and the losses in turn: a rule sees of them no more than the gradient."""
    case = NARROW[case]
    network, params = build(case, rng, dtype)
    x, y = problem(case, 37, targets if targets != "any" else "squared", rng, dtype)
    weights = rng.uniform(0, 2, 37).astype(dtype) if name == "adam" else None
    numbers = {"numbers": (0.7,)} if targets == "any" else {}
    lr = 0.002 if targets == "squared" or name in SCALED else 0.02
    count = 3 + kernels.count_lanes(np.dtype(dtype)) if name == "sgd" and targets == "labels" else 4
    some = goals(LOSS_OF[targets], count, **numbers)
    assert_same_bits(jobs_of(network, params, x, y, some, name, rng, weights=weights, lr=lr))


@pytest.mark.parametrize("k", [1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 70])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sums_over_classes(k, smoothing, rng, dtype):
    """Whatever is summed over outputs is summed in the order of vectors of outputs."""
    network, params = build((6, [9, "tanh", k]), rng, dtype)
    x, y = problem((6, [9, "tanh", k]), 30, "labels", rng, dtype)
    some = [Objective("cross_entropy", 0.0, smoothing * (i % 2)) for i in range(5)]
    assert_same_bits(jobs_of(network, params * 3, x, y, some, "sgd", rng))


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("weighted", [False, True])
def test_other_ways_of_counting(loss, k, weighted, rng, dtype):
    """Those of scikit-learn, some of whose losses and rules these are."""
    case = 6, [9, "relu", k]
    network, params = build(case, rng, dtype)
    x, _ = problem(case, 30, "labels", rng, dtype)
    y = {
        "labels": lambda: rng.integers(0, k, 30),
        "binary": lambda: rng.integers(0, 2, (30, k)).astype(dtype),
        "counts": lambda: rng.poisson(1.0, (30, k)).astype(dtype),
        "values": lambda: rng.normal(size=(30, k)).astype(dtype),
    }[TARGETS[loss]]()
    weights = rng.uniform(0.1, 2, 30).astype(dtype) if weighted else None
    own = [(k, *rng.uniform(0.1, 0.9, k)) if loss in ("binary_cross_entropy", "pinball") else () for _ in range(5)]
    some = [Objective(loss, 0.01 * (i % 3), reduction=SKLEARN, numbers=own[i]) for i in range(5)]
    jobs = jobs_of(network, params, x, y, some, "sgd", rng, weights=weights, lr=0.01)
    assert_same_bits(jobs)
    for i, job in enumerate(jobs):
        settings = 0.01 * (1 + i), 0.9, 0.99, 1e-3
        spec = OptimizerSpec("plain_adam", settings, np.zeros((2, len(params)), dtype), 5)
        jobs[i] = job._replace(rules=(spec,) * len(job.rules))
    assert_same_bits(jobs)


@pytest.mark.parametrize(("name", "clip_norm"), [("sgd", None), ("adam", None), ("sgd", 1.0)])
def test_inner_dimensions_in_blocks(name, clip_norm, rng, dtype):
    """In all three products of a layer."""
    one = 2048 // np.dtype(dtype).itemsize
    case = one + 3, [20, "relu", one + 7, ("leaky_relu", 0.1), 3]
    network, params = build(case, rng, dtype)
    x, y = problem(case, one + 18, "labels", rng, dtype)
    jobs = jobs_of(network, params, x, y, goals("cross_entropy", 3), name, rng, batch_size=one + 9)
    for k, job in enumerate(jobs):
        jobs[k] = job._replace(rules=tuple(spec._replace(clip_norm=clip_norm) for spec in job.rules))
    assert_same_bits(jobs)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 7, 36, 37, 38, 1000])
def test_batch_sizes(batch_size, rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 37, "labels", rng, dtype)
    for weights in (None, rng.uniform(size=37).astype(dtype)):
        assert_same_bits(jobs_of(network, params, x, y, goals("cross_entropy", 5), "sgd", rng, batch_size, weights))


def test_a_batch_size_for_each(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 37, "labels", rng, dtype)
    some = [jobs_of(network, params, x, y, goals("cross_entropy", 1), "adam", rng, size)[0] for size in (3, 8, 37, 1)]
    assert_same_bits(some)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("x_dtype", [np.uint8, np.float32, np.float64])
def test_x_in_any_layout_and_dtype(x_dtype, layout, rng, dtype, tmp_path):
    network, params = build(SMALL, rng, dtype)
    values = rng.integers(0, 256, (37, 13))
    x = (values if x_dtype == np.uint8 else values / 64).astype(x_dtype)
    plain = x_dtype != np.uint8 or layout in ("c", "fortran", "read-only", "memmap")
    given = LAYOUTS[layout](x, tmp_path) if plain else x[::-1][::-1]
    y = rng.integers(0, 5, 37)
    assert_same_bits(jobs_of(network, params, given, y, goals("cross_entropy", 5), "sgd", rng, lr=1e-5))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("places", [(0,), (1,), (2,), (0, 1)], ids=str)
def test_frozen_ops(places, name, rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 37, "labels", rng, dtype)
    assert_same_bits(jobs_of(frozen(network, *places), params, x, y, goals("cross_entropy", 5), name, rng))


@pytest.mark.parametrize("name", RULES)
def test_a_learning_rate_for_each_op_and_each_update(name, rng, dtype):
    """Of each network its own, and of some none."""
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 37, "labels", rng, dtype)
    for has_rates, has_scales in ((True, True), (True, False), (False, True)):
        jobs = jobs_of(network, params, x, y, goals("cross_entropy", 5), name, rng)
        for k, job in enumerate(jobs):
            count = -(-len(job.batches[0].order) // 8)
            rates = [rng.uniform(0, 0.02, count) if has_rates and k % 2 == 0 else None for _ in job.rules]
            scales = rng.uniform(0, 2, len(network.ops)) if has_scales and k != 1 else None
            rules = tuple(spec._replace(rates=each) for spec, each in zip(job.rules, rates, strict=True))
            jobs[k] = job._replace(network=job.network._replace(scales=scales), rules=rules)
        assert_same_bits(jobs)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "case",
    [SMALL, (60, [150, "tanh", 4]), (13, [17, ("leaky_relu", 0.1), ("dropout", 0.3), 5])],
    ids=["small", "several pieces of the norm", "dropout"],
)
def test_clipped_by_the_norm_of_each(case, name, rng, dtype):
    """Some always, one never, at other rates and scales; the batches are not of one size."""
    network, params = build(case, rng, dtype)
    x, y = problem(case, 37, "labels", rng, dtype)
    some = goals("cross_entropy", 5)
    for weights, scales in ((None, None), (rng.uniform(0, 2, 37).astype(dtype), rng.uniform(0, 2, len(network.ops)))):
        jobs = jobs_of(network._replace(scales=scales), params, x, y, some, name, rng, weights=weights)
        for k, limit in enumerate((0.01, 0.3, 1.0, 1e9, 0.05)):
            rules = tuple(spec._replace(clip_norm=limit) for spec in jobs[k].rules)
            jobs[k] = jobs[k]._replace(rules=rules)
        assert_same_bits(jobs)


@pytest.mark.parametrize("limit", [None, 0.3])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("size", [2, 3, 10**9])
def test_summed_over_batches(size, name, limit, rng, dtype):
    """Rates are those of updates, draws those of batches."""
    case = 13, [17, ("leaky_relu", 0.1), ("dropout", 0.3), 5]
    network, params = build(case, rng, dtype)
    x, y = problem(case, 37, "labels", rng, dtype)
    for weights in (None, rng.uniform(0, 2, 37).astype(dtype)):
        jobs = jobs_of(network, params, x, y, goals("cross_entropy", 5), name, rng, weights=weights)
        for k, job in enumerate(jobs):
            rates = rng.uniform(0, 0.02, -(-5 // size)) if k % 2 == 0 else None
            rules = (spec._replace(accumulate=size, clip_norm=limit, rates=rates) for spec in job.rules)
            jobs[k] = job._replace(rules=tuple(rules))
        assert_same_bits(jobs)


def test_dropout(rng, dtype):
    case = 13, [("dropout", 0.2), 17, "relu", ("dropout", 0.5), 5]
    network, params = build(case, rng, dtype)
    x, y = problem(case, 37, "labels", rng, dtype)
    jobs = jobs_of(network, params, x, y, goals("cross_entropy", 5), "sgd", rng)
    for k, job in enumerate(jobs):
        jobs[k] = job._replace(network=job.network._replace(settings=network.settings * (1 - k / 10)))
    assert_same_bits(jobs)


def test_networks_of_any_data(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    some = []
    for samples in (5, 64, 23, 8):
        x, y = problem(SMALL, samples, "labels", rng, dtype)
        some += jobs_of(network, params, x, y, goals("cross_entropy", 1), "momentum", rng)
    assert_same_bits(some)


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("targets", ["labels", "soft", "squared"])
def test_one_that_fails_keeps_what_it_had_and_disturbs_nobody(targets, name, rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 37, targets, rng, dtype)
    jobs = jobs_of(network, params, x, y, goals(LOSS_OF[targets], 4), name, rng, lr=1e-3)
    spoilt = jobs[1].params.copy()
    spoilt[:50] = np.finfo(dtype).max
    jobs[1] = jobs[1]._replace(params=spoilt)
    expected = [alone(job) for job in jobs]
    assert expected[1][1] >= 0
    together = [copied(job) for job in jobs]
    trained = in_lanes(together)
    assert [went_well for _, went_well in trained] == [True, False, True, True]
    np.testing.assert_array_equal(together[1].params, spoilt)
    np.testing.assert_array_equal(together[1].rules[0].slots, jobs[1].rules[0].slots)
    for i in (0, 2, 3):
        assert trained[i][0] == expected[i][0]
        np.testing.assert_array_equal(together[i].params, expected[i][2])


@pytest.mark.parametrize("label", [-1, 5, 2**40, -(2**62)])
def test_a_label_that_changes_after_it_was_checked_fails_its_network(label, rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 37, "labels", rng, dtype)
    wrong = y.copy()
    wrong[20] = label
    jobs = [jobs_of(network, params, x, labels, goals("cross_entropy", 1), "sgd", rng)[0] for labels in (y, wrong, y)]
    assert [went_well for _, went_well in in_lanes(jobs)] == [True, False, True]


def test_nothing_is_written_beside_the_parameters_and_slots(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 37, "labels", rng, dtype)
    jobs, rooms = [], []
    for k in range(3):
        room = np.full(3 * len(params) + 64, 77, dtype)
        own, slots = room[16 : 16 + len(params)], room[32 + len(params) : 32 + 3 * len(params)]
        own[:], slots[:] = params, 0
        spec = rule("adam", params)._replace(slots=slots.reshape(2, -1))
        data, goal = (batches(x, y, 8),) * (1 + k), Objective("cross_entropy", 0.1)
        jobs.append(Request(network, own, data, goal, (spec,) * (1 + k)))
        rooms.append(room)
    in_lanes(jobs)
    for room in rooms:
        np.testing.assert_array_equal(room[:16], 77)
        np.testing.assert_array_equal(room[16 + len(params) : 32 + len(params)], 77)
        np.testing.assert_array_equal(room[32 + 3 * len(params) :], 77)


def test_what_does_not_go_in_lanes(rng, dtype):
    network, params = build((1100, [3]), rng, dtype)
    x, y = problem((1100, [3]), 9, "labels", rng, dtype)
    (job,) = jobs_of(network, params, x, y, goals("cross_entropy", 1), "sgd", rng)
    assert kernels.lane_key(job) is None
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 9, "labels", rng, dtype)
    (job,) = jobs_of(network, params, x, y, goals("cross_entropy", 1), "sgd", rng)
    assert kernels.lane_key(job) is not None
    shorter = batches(x, y, 8, order=np.arange(7))
    assert kernels.lane_key(job._replace(batches=(*job.batches, shorter), rules=job.rules * 2)) is None
    for other in ({"clip_norm": 2.0}, {"accumulate": 2}, {"accumulate": 3}):
        changed = job._replace(rules=(job.rules[0]._replace(**other),))
        assert kernels.lane_key(job) != kernels.lane_key(changed) is not None
    shorter = changed._replace(batches=(batches(x, y, 8, order=np.arange(8)),))
    assert kernels.lane_key(shorter) != kernels.lane_key(changed)
    assert reference.lane_key(job) is None
    assert not reference.lanes_pay(job.network, job.params.dtype, 24, 100)


def test_the_twin_trains_one_after_the_other(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 37, "labels", rng, dtype)
    jobs = jobs_of(network, params, x, y, goals("cross_entropy", 3), "adam", rng, lr=1e-3)
    kernel, twin = ([copied(job) for job in jobs] for _ in range(2))
    results = in_lanes(kernel), reference.train_lanes(twin)
    for (losses, _), (wanted, _), job, other in zip(*results, kernel, twin, strict=True):
        np.testing.assert_allclose(losses, wanted, rtol=1e-4)
        np.testing.assert_allclose(job.params, other.params, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("networks", [1, 3, 12])
def test_lanes_pay_for_small_networks_and_many(networks, rng):
    small, _ = build((10, [16, "relu", 2]), rng, np.float32)
    large, _ = build((100, [200, "relu", 200, "relu", 2]), rng, np.float32)
    dtype = np.dtype(np.float32)
    width = kernels.count_lanes(dtype)
    assert not kernels.lanes_pay(large, dtype, 3 * 32, min(networks, width))
    assert kernels.lanes_pay(small, dtype, 3 * 32, networks) == (networks >= width // 2) or width < 16


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("samples", [1, 2, 63, 130])
@pytest.mark.parametrize("case", NARROW.values(), ids=NARROW)
def test_predictions_have_the_bits_of_each_network_alone(case, samples, softmax, rng, dtype):
    network, params = build(case, rng, dtype)
    x, _ = problem(case, samples, "labels", rng, dtype)
    network = network._replace(ops=network.ops.copy())
    for count in (1, 3, kernels.count_lanes(np.dtype(dtype))):
        jobs = [(network, params * dtype(1 + k / 8)) for k in range(min(count, kernels.count_lanes(np.dtype(dtype))))]
        out = np.full((len(jobs), samples, network.ops[-1, 2]), 77, dtype)
        assert kernels.forward_lanes(jobs, x, out, softmax)
        for (same, own), part in zip(jobs, out, strict=True):
            alone = np.empty_like(part)
            kernels.forward(same, own, x, alone, softmax)
            np.testing.assert_array_equal(part, alone)


def test_predictions_tell_of_samples_that_are_not_finite(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, _ = problem(SMALL, 70, "labels", rng, dtype)
    x[66, 3] = np.inf
    assert not kernels.forward_lanes([(network, params)], x, np.empty((1, 70, 5), dtype))
