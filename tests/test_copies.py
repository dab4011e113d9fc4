"""A model and its optimizer in pickles and copies: together they go on with the same bits, apart each begins anew."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest

import fastnn as fnn
from fastnn import schedules
from tests.training import assert_same_weights, labelled, network, weights
from tests.user_code import UserLinear

SHORT = {"epochs": 3, "batch_size": 16, "verbose": 0}
DECAY = schedules.linear_warmup(schedules.cosine_decay(0.1, 8, final=0.01), 2)


@pytest.fixture
def data(rng):
    return labelled(rng)


def by_joblib(objects):
    file = io.BytesIO()
    joblib.dump(objects, file)
    file.seek(0)
    return joblib.load(file)


def by_cloudpickle(objects):
    return pickle.loads(pytest.importorskip("cloudpickle").dumps(objects))


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda objects: pickle.loads(pickle.dumps(objects)),
    "protocol 2": lambda objects: pickle.loads(pickle.dumps(objects, protocol=2)),
    "joblib": by_joblib,
    "cloudpickle": by_cloudpickle,
}
OPTIMIZERS = {
    "momentum": lambda: fnn.SGD(lr=DECAY, momentum=0.9),
    "nesterov": lambda: fnn.SGD(lr=schedules.step_decay(0.1, every=2), momentum=0.9, nesterov=True),
    "adam": lambda: fnn.Adam(lr=schedules.exponential_decay(0.02)),
}


def with_dropout():
    layers = fnn.Linear(6, 9), fnn.ReLU(), fnn.Dropout(0.3), fnn.Linear(9, 3)
    return fnn.Sequential(*layers, dtype="float64")


def of_a_users():
    rng = np.random.default_rng(0)
    return fnn.Sequential(UserLinear(rng.normal(size=(6, 5)), np.zeros(5)), fnn.Dropout(0.3), fnn.Linear(5, 3))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
class TestTogether:
    @pytest.mark.parametrize("make", [with_dropout, of_a_users])
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_they_go_on_with_the_same_bits(self, name, make, duplicate, data):
        model, optimizer = make(), OPTIMIZERS[name]()
        model.fit(*data, optimizer=optimizer, **SHORT)
        twin, its_optimizer = duplicate((model, optimizer))
        assert (its_optimizer.steps, its_optimizer.epoch) == (12, 3)
        for pair in (model, optimizer), (twin, its_optimizer):
            pair[0].fit(*data, optimizer=pair[1], **SHORT)
        assert_same_weights(model, twin, rtol=0)
        assert model.history == twin.history
        assert (its_optimizer.steps, its_optimizer.epoch) == (24, 6)

    def test_within_anything(self, duplicate, data):
        model, optimizer = network(), fnn.Adam()
        model.fit(*data, optimizer=optimizer, **SHORT)
        state = duplicate({"optimizer": [optimizer], "others": {"model": model}})
        assert state["optimizer"][0].belongs_to(state["others"]["model"]._stack)
        assert not optimizer.belongs_to(state["others"]["model"]._stack)
        assert not state["optimizer"][0].belongs_to(model._stack)

    def test_a_copy_trains_apart_from_the_original(self, duplicate, data):
        model, optimizer = network(), fnn.SGD(lr=0.1, momentum=0.9)
        model.fit(*data, optimizer=optimizer, **SHORT)
        before = weights(model), optimizer.state()[0].copy()
        twin, its_optimizer = duplicate((model, optimizer))
        twin.fit(*data, optimizer=its_optimizer, **SHORT)
        np.testing.assert_array_equal(weights(model), before[0])
        np.testing.assert_array_equal(optimizer.state()[0], before[1])

    def test_from_within_a_callback(self, duplicate, data):
        """A checkpoint of an epoch goes on to the same end."""
        kept = []
        model, optimizer = with_dropout(), OPTIMIZERS["adam"]()
        note = [lambda model, epoch, values: kept.append(duplicate((model, optimizer))) if epoch == 2 else None]
        model.fit(*data, optimizer=optimizer, callbacks=note, shuffle=True, **{**SHORT, "epochs": 2})
        model.fit(*data, optimizer=optimizer, **SHORT)
        twin, its_optimizer = kept[0]
        twin.fit(*data, optimizer=its_optimizer, **SHORT)
        assert_same_weights(model, twin, rtol=0)


@pytest.mark.usefixtures("backend")
class TestApart:
    @pytest.mark.parametrize("duplicate", [copy.copy, *COPIES.values()], ids=["copy", *COPIES])
    def test_an_optimizer_alone_starts_afresh(self, duplicate, data):
        """With its own model too: the copy would otherwise take steps along moments that the original moved on from."""
        model, optimizer = network(), fnn.SGD(lr=0.1, momentum=0.9)
        model.fit(*data, optimizer=optimizer, **SHORT)
        alone, expected = duplicate(optimizer), copy.deepcopy(model)
        assert repr(alone) == repr(optimizer)
        before = optimizer.state()[0].copy()
        model.fit(*data, optimizer=alone, **SHORT)
        expected.fit(*data, optimizer=fnn.SGD(lr=0.1, momentum=0.9), **SHORT)
        assert_same_weights(model, expected, rtol=0)
        np.testing.assert_array_equal(optimizer.state()[0], before)

    @pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
    def test_a_model_alone_leaves_its_optimizer(self, duplicate, data):
        model, optimizer = network(), fnn.SGD(lr=0.1, momentum=0.9)
        model.fit(*data, optimizer=optimizer, **SHORT)
        twin, fresh = duplicate(model), copy.deepcopy(model)
        assert not optimizer.belongs_to(twin._stack)
        assert optimizer.belongs_to(model._stack)
        twin.fit(*data, optimizer=optimizer, **SHORT)
        fresh.fit(*data, optimizer=fnn.SGD(lr=0.1, momentum=0.9), **SHORT)
        assert_same_weights(twin, fresh, rtol=0)

    def test_a_subclass_keeps_its_own_attributes(self, data):
        class Counting(fnn.SGD):
            updates = 0

            def update(self, stack, lr, t):
                self.updates += 1
                super().update(stack, lr, t)

        model, optimizer = network(), Counting(lr=0.1)
        model.fit(*data, optimizer=optimizer, **SHORT)
        assert copy.copy(optimizer).updates == copy.deepcopy(optimizer).updates == 12


def by_memory_map(objects, folder):
    joblib.dump(objects, folder / "objects")
    return joblib.load(folder / "objects", mmap_mode="r")


def by_shared_memory(objects, folder):
    """As Ray and Dask do it: the arrays lie outside of the pickle, in memory that many processes read."""
    buffers = []
    content = pickle.dumps(objects, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(content, buffers=[bytes(buffer) for buffer in buffers])


@pytest.mark.parametrize("duplicate", [by_memory_map, by_shared_memory])
def test_arrays_that_come_back_read_only_are_copied(duplicate, tmp_path, data):
    """And they begin anywhere."""
    model, optimizer = of_a_users(), fnn.Adam(lr=0.01)
    model.fit(*data, optimizer=optimizer, **SHORT)
    twin, its_optimizer = duplicate((model, optimizer), tmp_path)
    assert all(type(slots) is np.ndarray and slots.flags.writeable for slots in its_optimizer.state())
    assert its_optimizer.state()[0].ctypes.data % 64 == 0
    layer = twin.layers[0]
    layer.weight, layer.bias = np.array(layer.weight), np.array(layer.bias)  # a user's arrays are the user's
    for pair in (model, optimizer), (twin, its_optimizer):
        pair[0].fit(*data, optimizer=pair[1], **SHORT)
    assert_same_weights(model, twin, rtol=0)


SCHEDULES = [
    (schedules.step_decay(0.8, every=2), "step_decay(lr=0.8, factor=0.5, every=2)"),
    (schedules.exponential_decay(1, 0.1), "exponential_decay(lr=1.0, factor=0.1)"),
    (schedules.cosine_decay(1.0, 4, final=0.2), "cosine_decay(lr=1.0, epochs=4, final=0.2)"),
    (schedules.linear_warmup(0.4, 4), "linear_warmup(schedule=0.4, epochs=4)"),
    (schedules.cosine(1, 9, warmup=2), "cosine(lr=1.0, length=9, final=0.0, warmup=2, per='epoch')"),
    (schedules.linear(1, 9, 0.5, per="step"), "linear(lr=1.0, length=9, final=0.5, warmup=0, per='step')"),
    (schedules.linear(1, 9, 0.5), "linear(lr=1.0, length=9, final=0.5, warmup=0, per='epoch')"),
    (schedules.step(0.8, every=2), "step(lr=0.8, factor=0.5, every=2, warmup=0, per='epoch')"),
    (schedules.exponential(0.8), "exponential(lr=0.8, factor=0.95, warmup=0, per='epoch')"),
    (
        schedules.one_cycle(1, 9, start=0.5, final=0),
        "one_cycle(lr=1.0, length=9, start=0.5, final=0.0, warmup=2, per='epoch')",
    ),
    (
        schedules.piecewise([1, 0.5], [4], warmup=1),
        "piecewise(rates=(1.0, 0.5), boundaries=(4,), warmup=1, per='epoch')",
    ),
    (DECAY, "linear_warmup(schedule=cosine_decay(lr=0.1, epochs=8, final=0.01), epochs=2)"),
]


@pytest.mark.parametrize(("schedule", "shown"), SCHEDULES, ids=[shown[:20] for _, shown in SCHEDULES])
class TestSchedules:
    @pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
    def test_a_copy_gives_the_same_rates(self, duplicate, schedule, shown):
        twin = duplicate(schedule)
        assert [twin(epoch) for epoch in range(12)] == [schedule(epoch) for epoch in range(12)]
        assert twin == schedule

    def test_repr_is_the_call_that_makes_it(self, schedule, shown):
        assert repr(schedule) == shown
        assert eval(shown, vars(schedules)) == schedule
        assert repr(fnn.SGD(lr=schedule)) == f"SGD(lr={shown}, momentum=0, nesterov=False)"


def test_schedules_differ_by_their_settings():
    made = [schedule for schedule, _ in SCHEDULES]
    assert all((a == b) == (i == j) for i, a in enumerate(made) for j, b in enumerate(made))
    assert len({*made, *(copy.deepcopy(schedule) for schedule in made)}) == len(made)
