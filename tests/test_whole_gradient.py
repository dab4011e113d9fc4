"""What takes the gradient as a whole: clipping by its norm, and sums over batches."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fnn
from tests.many import OPTIMIZERS, ByStep, labelled
from tests.test_frozen import as_users
from tests.training import assert_same_weights
from tests.user_code import UserLinear, UserSquares

SHORT = {"epochs": 3, "batch_size": 7, "shuffle": False, "verbose": 0}


@pytest.fixture
def data(rng):
    return labelled(rng)


def layers(kind):
    return {
        "tanh": lambda: [
            fnn.Linear(6, 9),
            fnn.Tanh(),
            fnn.Linear(9, 5, bias=False),
            fnn.LayerNorm(5),
            fnn.Linear(5, 3),
        ],
        "frozen": lambda: [fnn.Linear(6, 9, trainable=False), fnn.Tanh(), fnn.Linear(9, 3, lr_scale=0.5)],
        "batch": lambda: [
            fnn.Linear(6, 9),
            fnn.BatchNorm(9),
            fnn.Residual(fnn.Linear(9, 9), fnn.ReLU()),
            fnn.Linear(9, 3),
        ],
        "codes": lambda: [fnn.Embedding({0: (7, 3), 4: (3, 2)}), fnn.Linear(9, 3)],
    }[kind]()


def as_codes(X, rng):
    """The first and the fifth column hold codes, some of them in a few batches alone."""
    X = X.copy()
    X[:, 0], X[:, 4] = np.minimum(rng.geometric(0.4, len(X)) - 1, 6), rng.integers(0, 3, len(X))
    return X


def clip(optimizer, limit):
    """The same optimizer with a limit."""
    optimizer._clip_norm = limit
    return optimizer


def loop(model, X, y, optimizer, batch_size, l2):
    """An epoch, written out."""
    for start in range(0, len(X), batch_size):
        x, t = X[start : start + batch_size], y[start : start + batch_size]
        model.backward(fnn.cross_entropy_backward(model.forward(x, training=True), t), l2=l2)
        optimizer.step(model)


@pytest.mark.usefixtures("backend")
class TestClipping:
    @pytest.mark.parametrize("path", ["fit", "layer by layer", "step"])
    def test_by_hand(self, path):
        """ŷ = a b for 0 at a = 3, b = 4, with λ (a² + b²): the gradient is (96 + 3, 72 + 4), its norm √(99² + 76²)."""
        weights = [[[3.0]], [[4.0]]]
        model = fnn.Sequential(*[fnn.Linear(1, 1, init=w, bias=False) for w in weights], dtype="float64")
        X, y, optimizer = [[1.0]], [[0.0]], fnn.SGD(lr=0.1, clip_norm=0.5)
        if path == "step":
            model.backward(fnn.squared_error_backward(model.forward(X, training=True), y), l2=0.5)
            optimizer.step(model)
            assert model.layers[0].weight_grad == 99
        else:
            loss = "squared_error" if path == "fit" else UserSquares()
            model.fit(X, [0.0], loss=loss, optimizer=optimizer, l2=0.5, epochs=1, verbose=0)
        gradient = np.array([99.0, 76.0])
        expected = [3, 4] - 0.1 * gradient * (0.5 / (np.hypot(*gradient) + 1e-6))
        np.testing.assert_allclose([p.item() for p in model.parameters()], expected, rtol=1e-12)

    @pytest.mark.parametrize("kind", ["tanh", "frozen", "batch", "codes"])
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_compiled_layer_by_layer_and_in_a_loop(self, name, kind, data, rng):
        X, y = data
        X = as_codes(X, rng) if kind == "codes" else X
        compiled, looped = (fnn.Sequential(*layers(kind), dtype="float64", seed=2) for _ in range(2))
        compiled.fit(X, y, optimizer=clip(OPTIMIZERS[name](), 0.1), l2=0.01, **{**SHORT, "epochs": 1})
        loop(looped, X, y, clip(OPTIMIZERS[name](), 0.1), SHORT["batch_size"], 0.01)
        assert_same_weights(compiled, looped, rtol=1e-7)

    def test_a_users_layers_count_for_the_norm(self, data, rng):
        X, y = data
        weight = rng.normal(size=(6, 9))
        models = [
            fnn.Sequential(first, fnn.Tanh(), fnn.Linear(9, 3), dtype="float64", seed=3)
            for first in (UserLinear(weight.copy(), np.zeros(9)), fnn.Linear(6, 9, init=weight))
        ]
        models[1].layers[2].weight, models[1].layers[2].bias = models[0].layers[2].weight, models[0].layers[2].bias
        for model in models:
            model.fit(X, y, optimizer=fnn.Adam(clip_norm=0.05), **SHORT)
        assert_same_weights(*models, rtol=1e-9)

    def test_a_gradient_that_is_infinite_stays_no_number(self):
        """As with PyTorch, whose factor is 0 then: ŷ = a b x = 1000 for 0, and 2 ŷ b x is beyond float32."""
        model = fnn.Sequential(*[fnn.Linear(1, 1, init=[[w]], bias=False) for w in (1e-37, 1e30)])
        settings = {"loss": "squared_error", "epochs": 1, "verbose": 0}
        with pytest.raises(fnn.DivergenceError, match="diverged"):
            model.fit([[1e10]], [[0.0]], optimizer=fnn.SGD(0.1, clip_norm=1), **settings)

    def test_many_networks_at_once(self, data):
        models = [fnn.Sequential(*layers("tanh"), seed=seed) for seed in range(4)]
        twins = copy.deepcopy(models)
        optimizers = [fnn.SGD(0.1, clip_norm=limit) for limit in (0.01, 0.5, 100.0)] + [fnn.SGD(0.1)]
        fnn.fit_many(models, *data, optimizer=copy.deepcopy(optimizers), accumulate=[1, 2, 1, 3], **SHORT)
        for model, twin, optimizer, size in zip(models, twins, optimizers, (1, 2, 1, 3), strict=True):
            twin.fit(*data, optimizer=optimizer, accumulate=size, **SHORT)
            np.testing.assert_array_equal(model._stack.params, twin._stack.params)

    def test_shown_and_kept(self):
        for optimizer, text in [
            (fnn.SGD(0.1, clip_norm=1), "SGD(lr=0.1, momentum=0, nesterov=False, clip_norm=1)"),
            (fnn.Adam(clip_norm=0.5), "Adam(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08, clip_norm=0.5)"),
            (
                fnn.AdamW(clip_norm=2),
                "AdamW(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.01, clip_norm=2)",
            ),
            (fnn.RMSprop(clip_norm=3), "RMSprop(lr=0.01, alpha=0.99, eps=1e-08, momentum=0, clip_norm=3)"),
        ]:
            assert (
                repr(optimizer) == repr(copy.deepcopy(optimizer)) == repr(pickle.loads(pickle.dumps(optimizer))) == text
            )
        rule = fnn.UpdateRule(lambda w, g, lr, t: w - lr * g, lr=0.1, name="plain", clip_norm=1.5)
        assert repr(rule) == "UpdateRule(plain, lr=0.1, clip_norm=1.5)"
        assert (rule.clip_norm, fnn.SGD().clip_norm) == (1.5, None)
        with pytest.raises(AttributeError, match="clip_norm"):
            rule.clip_norm = 1

    @pytest.mark.parametrize("optimizer", [fnn.SGD, fnn.Adam, fnn.AdamW, fnn.RMSprop])
    def test_refused(self, optimizer):
        for limit, error in ((0, ValueError), (-1, ValueError), (np.inf, ValueError), ("much", TypeError)):
            with pytest.raises(error, match=r"clip_norm is .*, expected a finite number > 0"):
                optimizer(clip_norm=limit)


@pytest.mark.usefixtures("backend")
class TestAccumulating:
    @pytest.mark.parametrize("wrap", [lambda layer: layer, as_users], ids=["compiled", "layer by layer"])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_batches_are_one(self, weighted, wrap, data, rng):
        """60 samples in batches of 7, 3 at a time, are batches of 21, 21 and 18, penalty and norm included."""
        X, y = data
        v = rng.uniform(0, 2, 60) if weighted else None
        models = [fnn.Sequential(*map(wrap, layers("tanh")), dtype="float64", seed=2) for _ in range(2)]
        settings = {**SHORT, "l2": 0.02, "sample_weight": v}
        optimizers = [fnn.Adam(lr=0.01, clip_norm=0.4) for _ in models]
        models[0].fit(X, y, optimizer=optimizers[0], accumulate=3, **settings)
        models[1].fit(X, y, optimizer=optimizers[1], **{**settings, "batch_size": 21})
        assert_same_weights(*models, rtol=1e-9)
        assert optimizers[0].steps == optimizers[1].steps == 9

    @pytest.mark.parametrize("kind", ["tanh", "frozen", "batch", "codes"])
    @pytest.mark.parametrize("name", ["sgd", "momentum", "adamw", "by step"])
    def test_compiled_and_layer_by_layer(self, name, kind, data, rng):
        X, y = data
        X = as_codes(X, rng) if kind == "codes" else X
        models = [fnn.Sequential(*layers(kind), dtype="float64", seed=2) for _ in range(2)]
        models.append(fnn.Sequential(*map(as_users, layers(kind)), dtype="float64", seed=2))
        settings = {"l2": 0.01, "accumulate": 4, **SHORT}
        histories = [m.fit(X, y, optimizer=clip(OPTIMIZERS[name](), 0.5), **settings) for m in models[1:]]
        np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-7)
        assert_same_weights(*models[1:], rtol=1e-7)
        assert not np.array_equal(models[0]._stack.params, models[1]._stack.params)

    def test_the_loss_is_that_of_each_batch(self):
        """ŷ = w from 1 for 0 and 2: losses 1, 1 at w = 1; the mean gradient is 0, so that both batches leave w."""
        model = fnn.Sequential(fnn.Linear(1, 1, init=[[1.0]], bias=False), dtype="float64")
        history = model.fit(
            [[1.0], [1.0]],
            [0.0, 2.0],
            loss="squared_error",
            batch_size=1,
            accumulate=2,
            epochs=2,
            shuffle=False,
            verbose=0,
        )
        assert history["loss"] == [1, 1]
        assert model.parameters()[0] == 1

    def test_schedules_count_updates(self, data):
        class Asked(ByStep):
            asked = ()

            def __call__(self, step):
                self.asked = (*self.asked, step)
                return super().__call__(step)

        schedule = Asked()
        model = fnn.Sequential(*layers("tanh"))
        model.fit(*data, optimizer=fnn.SGD(schedule), accumulate=4, **SHORT)  # 9 batches an epoch
        assert schedule.asked == tuple(range(9))

    @pytest.mark.parametrize("loss", ["squared_error", UserSquares()], ids=["compiled", "layer by layer"])
    def test_divergence_has_its_batch(self, loss):
        """The loss overflows at sample 4, in the second update of two batches each."""
        model = fnn.Sequential(fnn.Linear(1, 1, init=[[1.0]], bias=False), dtype="float64")
        X = np.array([[1.0], [1.0], [1.0], [1e200], [1.0]])
        with pytest.raises(fnn.DivergenceError) as error:
            model.fit(
                X, np.zeros(5), loss=loss, optimizer=fnn.SGD(0.1), batch_size=1, accumulate=2, shuffle=False, verbose=0
            )
        assert (error.value.epoch, error.value.batch) == (0, 3)
        assert model.parameters()[0] == pytest.approx(0.8)

    @pytest.mark.parametrize(
        ("accumulate", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
    )
    def test_refused(self, accumulate, error, data):
        model = fnn.Sequential(*layers("tanh"))
        with pytest.raises(error, match=r"accumulate is .*, expected a positive integer"):
            model.fit(*data, accumulate=accumulate, verbose=0)
        with pytest.raises(error, match=r"models\[0\]: accumulate is .*, expected a positive integer"):
            fnn.fit_many([model], *data, accumulate=[accumulate], verbose=0)

    def test_more_batches_than_there_are(self, data):
        models = [fnn.Sequential(*layers("tanh"), dtype="float64") for _ in range(2)]
        models[0].fit(*data, accumulate=10**9, **SHORT)
        models[1].fit(*data, **{**SHORT, "batch_size": 60})
        assert_same_weights(*models, rtol=1e-9)


def test_the_profile_of_a_clipped_step(data):
    profile = fnn.profile(fnn.Sequential(*layers("tanh")), *data, optimizer=fnn.SGD(0.1, clip_norm=0.1), seconds=0.01)
    assert sum(part.seconds for part in profile.parts) > 0
