"""Callbacks for MLflow, TensorBoard and Optuna, each with the library itself."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.interop import MLflowLogger, OptunaPruning, TensorBoardLogger

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


def fit(callback, **arguments):
    model = fnn.Sequential(fnn.Linear(3, 2), seed=0)
    return model, model.fit(X, Y, validation_data=(X, Y), epochs=4, callbacks=[callback], verbose=0, **arguments)


@pytest.mark.filterwarnings("default")  # what MLflow warns of is its own
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    with mlflow.start_run() as run:
        _, history = fit(MLflowLogger("fast_"))
    logged = mlflow.MlflowClient().get_metric_history(run.info.run_id, "fast_val_loss")
    assert [each.step for each in logged] == [1, 2, 3, 4]
    assert [each.value for each in logged] == history["val_loss"]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, history = fit(TensorBoardLogger(tmp_path / "runs"))
    read = EventAccumulator(str(tmp_path / "runs")).Reload()
    for tag, name in (("loss/training", "loss"), ("loss/validation", "val_loss")):
        events = read.Scalars(tag)
        assert [each.step for each in events] == [1, 2, 3, 4]
        np.testing.assert_allclose([each.value for each in events], history[name], rtol=1e-6)


def test_a_writer_of_others():
    class Writer:
        def __init__(self):
            self.written = []

        def add_scalar(self, *given):
            self.written.append(given)

    writer = Writer()
    _, history = fit(TensorBoardLogger(writer))
    assert writer.written[0] == ("loss/training", history["loss"][0], 1)
    assert {name for name, _, _ in writer.written} == {
        "loss/training",
        "loss/validation",
        "accuracy/validation",
    }


def test_optuna():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    models = []

    def objective(trial):
        rate = trial.suggest_categorical("rate", [0.1, 1e-9])
        model = fnn.Sequential(fnn.Linear(3, 2), seed=0)
        models.append(model)
        optimizer = fnn.SGD(lr=rate)
        model.fit(
            X, Y, validation_data=(X, Y), epochs=4, optimizer=optimizer, callbacks=[OptunaPruning(trial)], verbose=0
        )
        return model.history["val_loss"][-1]

    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=2)
    study = optuna.create_study(pruner=pruner)
    for rate in (0.1, 1e-9):
        study.enqueue_trial({"rate": rate})
    study.optimize(objective, n_trials=2)
    good, bad = study.trials
    assert good.state == optuna.trial.TrialState.COMPLETE
    assert [*good.intermediate_values.values()] == models[0].history["val_loss"]
    assert bad.state == optuna.trial.TrialState.PRUNED
    assert list(bad.intermediate_values) == [1, 2]  # the last of the steps in which none is pruned
    assert len(models[1].history["loss"]) == 2

    model = fnn.Sequential(fnn.Linear(3, 2))
    before = model.layers[0].weight.copy()
    with pytest.raises(ValueError, match="monitor is 'val_loss', but the values of this training are loss"):
        model.fit(X, Y, callbacks=[OptunaPruning(study.ask())], verbose=0)
    assert (model.layers[0].weight == before).all()
