"""A program as users write it, which mypy checks and nothing runs: what it must refuse is marked with an ignore.

An ignore that nothing needs is an error too, so a signature that is no longer seen fails here.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from fastnn.sklearn import MLPClassifier, MLPRegressor

X, y = np.zeros((3, 2)), np.array([0, 1, 2])


def fit_estimators() -> None:
    """Every keyword is known, with its type; ``fit`` returns the estimator."""
    classifier: MLPClassifier = MLPClassifier(
        (10, 5),
        ["relu", "leaky_relu"],
        solver="adam",
        batch_size="auto",
        n_iter_no_change=np.inf,
        class_weight={0: 1, 1: 2.5},
        label_smoothing=0.1,
        dropout=[0.1, 0.2],
        dtype=np.float32,
        callbacks=[lambda estimator, epoch, values: values["loss"] < 0.1],
        n_threads=1,
        optimizer="adamw",
        weight_decay=0.1,
        clip_norm=1.0,
        layer_norm=True,
    ).fit(X, y, X_val=X, y_val=y)
    rates: float | Sequence[float] | NDArray[np.float64] = classifier.dropout
    regressor = MLPRegressor("poisson", hidden_layer_sizes=3, activation="tanh", dropout=0.5, dtype="float64")
    regressor.fit(X, y, validation_data=(X, y)).fit(X, y, sample_weight=[1, 2, 3])
    labels: NDArray[np.int64] = classifier.predict(X)
    print(rates, labels, classifier.to_sklearn().coefs_)

    MLPClassifier(clas_weight="balanced")  # type: ignore[call-arg]
    MLPClassifier(activation="swish")  # type: ignore[arg-type]
    MLPClassifier(optimizer="lion")  # type: ignore[arg-type]
    MLPClassifier(class_weight="even")  # type: ignore[arg-type]
    MLPClassifier((3,), "relu", "adam")  # type: ignore[call-arg]
    MLPRegressor(class_weight="balanced")  # type: ignore[call-arg]
    MLPRegressor(loss="absolute_error")  # type: ignore[arg-type]
    MLPRegressor(dtype="float16")  # type: ignore[arg-type]
    regressor.fit(X, y, x_val=X)  # type: ignore[call-arg]
    regressor.fit(X, y, validation_data=X)  # type: ignore[arg-type]


def fit_model(dtype: np.dtype[np.float32]) -> None:
    """Names are literal types, and a model knows that its layers are layers."""
    model = fnn.Sequential(fnn.Linear(2, 4, init="he"), fnn.ReLU(), fnn.Linear(4, 3), dtype="float64")
    stopping = fnn.EarlyStopping(monitor="val_accuracy")
    model.fit(X, y, loss="cross_entropy", optimizer="adam", class_weight="balanced", callbacks=[stopping])
    model.fit(X, y, loss=fnn.CrossEntropy(0.1), optimizer=fnn.SGD(lr=0.1), class_weight={0: 1.0})
    model.fit(X, X, loss="huber", optimizer="adamw")
    schedule = fnn.schedules.one_cycle(0.1, 20, per="step")
    schedule.plot(n=5)
    callbacks = [stopping, fnn.ReduceOnPlateau(patience=2), fnn.ModelCheckpoint("best.npz", "val_f1")]
    model.fit(X, ["a", "b", "c"], optimizer=fnn.SGD(schedule), validation_split=0.2, callbacks=callbacks)
    model.fit([(X, y)], buffer=100)
    model.fit(lambda: iter([(X, y, y)]), class_weight="balanced")
    model.fit(fnn.datasets.ParquetSource("a.parquet", "y", categories="find"))
    model.fit(fnn.datasets.CsvSource("a.csv", ["a", "b"], categories={"c": ["d"]}), buffer="all")  # type: ignore[arg-type]
    model.fit(X, y, metrics=["f1", lambda y, outputs: float(outputs.max())])
    measured: dict[str, float] = model.evaluate(X, y, metrics={"mine": lambda y, outputs: 0})
    classes: NDArray[np.str_] | None = model.classes_
    print(measured, classes)
    fnn.schedules.cosine(0.1, 20, per="batch")  # type: ignore[arg-type]
    model.loss = "squared_error"
    layers: tuple[fnn.Layer, ...] = model.layers
    fnn.warmup([np.float32, np.dtype("float64"), dtype])
    ensemble = fnn.Ensemble([model, fnn.Sequential(fnn.Linear(2, 3))])
    first: fnn.Sequential = ensemble[0]
    pair: fnn.Ensemble = fnn.Ensemble.load("ensemble.npz")[:2]
    loaded: fnn.Sequential = fnn.load("model.npz")
    print(first.summary(), pair.predict(X), loaded.layers, len(ensemble), [each.dtype for each in ensemble])
    fnn.Ensemble([3])  # type: ignore[list-item]
    fnn.Ensemble(model)  # type: ignore[arg-type]
    with fnn.use_backend("numpy"):
        print(layers, fnn.Sequential(*layers, dtype=model.dtype))

    print(model.layers[0].wieght)  # type: ignore[attr-defined]
    model.fit(X, y, loss="cross_entropi")  # type: ignore[arg-type]
    model.fit(X, y, optimizer="addam")  # type: ignore[arg-type]
    fnn.Sequential(dtype="float16")  # type: ignore[arg-type]
    fnn.EarlyStopping(monitor="val_auc", mode="rise")  # type: ignore[arg-type]
    fnn.use_backend("cuda")  # type: ignore[arg-type]


def fit_models() -> None:
    """Every argument is one for all, or a list with one for each."""
    models = [fnn.Sequential(fnn.Linear(2, 3), seed=i) for i in range(2)]
    histories: list[fnn.History] = fnn.fit_many(models, X, y, optimizer=[fnn.Adam(), "sgd"], l2=[0.0, 0.1], epochs=3)
    fnn.fit_many(
        iter(models), [X, X], [y, y], rows=[[0, 1], None], validation_rows=np.arange(2), class_weight="balanced"
    )
    optimizer: fnn.Optimizer | None = histories[0].optimizer
    error: Exception | None = histories[0].error
    print(optimizer, error)

    fnn.fit_many(models, X, y, optimiser="sgd")  # type: ignore[call-arg]
    fnn.fit_many(models, X, y, loss="hinge")  # type: ignore[arg-type]
    fnn.fit_many(models[0], X, y)  # type: ignore[arg-type]
