"""Epochs that keep what those before prepared: the same bits as of epochs alone, whatever changes between them."""

import gc
import weakref

import numpy as np
import pytest

from fastnn import kernels
from fastnn.kernels.gemm import product
from fastnn.kernels.gemm.product import workspace
from fastnn.kernels.network import epoch as epochs
from fastnn.kernels.threading import team
from tests.networks import batches, build, frozen, objective, problem, rule, scaled

CASE = (6, [(18, False), "relu", ("dropout", 0.25), 5])
WIDE = (64, [512, "relu", 10])


class Kept:
    """A network, trained epoch by epoch, and another one that keeps nothing from one epoch to the next."""

    def __init__(self, case, targets, rng, dtype, samples=40):
        self.network, params = build(case, rng, dtype)
        self.params, self.alone = params, params.copy()
        x, y = problem(case, samples, targets, rng, dtype)
        self.data, self.goal = (
            batches(x, y, 8),
            objective({"labels": "cross_entropy"}.get(targets, "squared_error"), 0.01),
        )
        self.kept, self.rng, self.slots = {}, rng, {}

    def spec(self, name="sgd", step=0, **changes):
        """The rule with slots that it keeps, for the network and for the one alone."""
        both = self.slots.setdefault(name, [rule(name, self.params, 0.01) for _ in range(2)])
        return [one._replace(step=step, **changes) for one in both]

    def epoch(self, rules=None, data=None, network=None, goal=None):
        """Train both in an order of their own, and compare them."""
        data = self.data if data is None else data
        data = data._replace(order=self.rng.permutation(data.order))
        what = data, self.goal if goal is None else goal
        network = self.network if network is None else network
        rules = self.spec() if rules is None else rules
        # Whoever else worked in the memory of products.
        workspace(self.params.dtype)[2048:] = np.nan
        found = kernels.train_epoch(network, self.params, *what, rules[0], None, self.kept)
        np.testing.assert_equal(found, kernels.train_epoch(network, self.alone, *what, rules[1]))
        np.testing.assert_array_equal(self.params, self.alone)
        np.testing.assert_array_equal(rules[0].slots, rules[1].slots)
        return found


@pytest.fixture(params=["labels", "squared"])
def pair(request, rng, dtype):
    return Kept(CASE, request.param, rng, dtype)


def the_kept(pair):
    [kept] = pair.kept.values()
    return kept


def test_one_is_kept(pair):
    pair.epoch()
    kept = the_kept(pair)
    before = pair.params.copy()
    for _ in range(3):
        assert pair.epoch()[1] == -1
        assert the_kept(pair) is kept
    assert not np.array_equal(pair.params, before)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_what_the_rule_changes(name, pair):
    pair.epoch(pair.spec(name))
    kept = the_kept(pair)
    settings = pair.spec(name)[0].settings
    for step, changes in enumerate(
        [
            {"settings": (0.02, *settings[1:])},
            {"rates": np.array([0.01, 0.04, 0.0, 0.02, 0.03])},
            {"rates": np.array([0.03, 0.02, 0.01, 0.0, 0.05])},
            {"settings": (0.01, *settings[1:])},
        ]
    ):
        pair.epoch(pair.spec(name, 5 * step + 5, **changes))
        assert the_kept(pair) is kept


def test_gradients_as_a_whole(pair):
    for step, changes in enumerate(
        [{"clip_norm": 0.1}, {"clip_norm": 0.1}, {"clip_norm": 0.3}, {"accumulate": 2}, {"accumulate": 2}, {}]
    ):
        pair.epoch(pair.spec("momentum", step, **changes))
    assert len(pair.kept) == 4


def test_other_samples(pair):
    """Of which those before may have gone, and whose number need not be the same."""
    pair.epoch()
    for samples in (40, 24):
        pair.data = pair.data._replace(x=pair.data.x[-samples:] + 1, order=np.arange(samples))
        pair.data = pair.data._replace(y=pair.data.y[-samples:])
        pair.epoch()
    weights = pair.rng.random(24).astype(pair.params.dtype)
    for weighted in (weights, weights + 1, None):
        pair.data = pair.data._replace(sample_weight=weighted)
        pair.epoch()
    assert len(pair.kept) == 1


def test_other_networks_and_objectives(pair):
    pair.epoch()
    networks = [
        pair.network._replace(seed=5),
        scaled(pair.network),
        frozen(pair.network, 0),
        pair.network._replace(row=3),
    ]
    for network in networks * 2:
        pair.epoch(network=network)
    for l2 in (0.3, 0.0):
        pair.epoch(goal=pair.goal._replace(l2=l2))
    pair.epoch(pair.spec("momentum"))


def test_batches_of_many_sizes(pair):
    """No more are kept than a few, those that came last."""
    for _ in range(2):
        for size in range(1, 12):
            pair.epoch(data=pair.data._replace(batch_size=size))
    pair.epoch(data=pair.data._replace(order=np.arange(3)))
    assert [size for size, *_ in pair.kept] == [9, 10, 11, 3]
    assert len(pair.kept) == epochs._MOST_KEPT


def test_an_epoch_that_fails_is_not_kept(pair):
    pair.epoch(pair.spec(accumulate=2))
    x, good = pair.data.x, pair.data.x[20].copy()
    before = pair.params.copy()
    x[20, :2] = np.inf, -np.inf
    assert pair.epoch(pair.spec(accumulate=2))[1] >= 0
    assert not pair.kept
    x[20], pair.params[:], pair.alone[:] = good, before, before
    assert pair.epoch(pair.spec(accumulate=2))[1] == -1


def test_another_number_of_threads(rng, dtype, monkeypatch):
    """What each thread has for itself is made anew."""
    monkeypatch.setattr(team.PROFIT, "is_likely", lambda: True)  # also where other processes keep the CPUs busy
    pair, before = Kept(WIDE, "labels", rng, dtype, 1200), team.get_num_threads()
    data = pair.data._replace(batch_size=600)
    try:
        for n in (1, 2, 3, 1, 2, 2):
            team.set_num_threads(n)
            pair.epoch(data=data)
            assert len(the_kept(pair)._results) == n
    finally:
        team.set_num_threads(before)


def test_another_workspace(pair):
    """As a larger product makes one, after which the one before is gone."""
    product._local.__dict__.clear()
    pair.epoch()
    memory = weakref.ref(the_kept(pair)._first)
    workspace(pair.params.dtype, 1 << 20)
    pair.epoch()
    gc.collect()
    assert memory() is None


def test_a_large_workspace_is_given_back(pair, monkeypatch):
    product._local.__dict__.clear()
    monkeypatch.setattr(product, "MOST_KEPT_BYTES", 1 << 20)
    pair.epoch()
    assert not pair.kept


def test_a_large_gradient_is_given_back(rng, dtype):
    pair = Kept((600, [512, "relu", 10]), "labels", rng, dtype, 16)
    pair.epoch(pair.spec(clip_norm=0.1))
    assert not pair.kept
    pair.epoch()
    assert len(pair.kept) == 1


def test_one_that_is_of_no_use_is_gone_before_the_next_is_made(pair, monkeypatch):
    pair.epoch()
    stale, there = weakref.ref(the_kept(pair)), []
    prepared = epochs._Epoch.__init__
    monkeypatch.setattr(epochs._Epoch, "__init__", lambda self, *rest: there.append(stale()) or prepared(self, *rest))
    pair.epoch(data=pair.data._replace(x=pair.data.x.copy()))
    assert there == [None, None]


@pytest.mark.parametrize(
    "order",
    [np.arange(80)[::2], np.arange(40)[None], np.arange(40, dtype=np.int32)],
    ids=["gaps", "a table", "another dtype"],
)
def test_an_order_that_is_none(order, pair):
    pair.epoch()
    with pytest.raises(TypeError, match=r"a record wants int64 \(n,\), C-contiguous and aligned, but got int"):
        kernels.train_epoch(pair.network, pair.params, pair.data._replace(order=order), pair.goal, pair.spec()[0],
                            None, pair.kept)  # fmt: skip
