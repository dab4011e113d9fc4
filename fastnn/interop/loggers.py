"""Callbacks that hand the values of each epoch to what people watch them with."""

import os
import time
from typing import Any

from ..libraries import library


class MLflowLogger:
    """A callback that logs the values of each epoch to MLflow, in the active run, or in one that it starts.

    Parameters
    ----------
    prefix : str
        What stands before the names of the values.

    Raises
    ------
    ImportError
        If mlflow is missing.

    Examples
    --------
    >>> from fastnn.interop import MLflowLogger
    >>> model.fit(X, y, callbacks=[MLflowLogger()])  # doctest: +SKIP
    """

    def __init__(self, prefix: str = "") -> None:
        self._mlflow, self.prefix = library("mlflow", "loggers", "MLflowLogger"), prefix

    def __call__(self, model: Any, epoch: int, values: dict[str, float]) -> None:
        """Log the values of an epoch, or of an iteration of an estimator."""
        self._mlflow.log_metrics({f"{self.prefix}{name}": value for name, value in values.items()}, step=epoch)


class TensorBoardLogger:
    """A callback that writes the values of each epoch for TensorBoard, those of validation beside those of training.

    Parameters
    ----------
    target : path, or an object with a method add_scalar(name, value, step)
        A folder, in which each training writes a file; or a writer such as ``torch.utils.tensorboard.SummaryWriter``.

    Raises
    ------
    ImportError
        If tensorboard is missing, which a folder needs.
    """

    def __init__(self, target: Any) -> None:
        self._folder = None if hasattr(target, "add_scalar") else os.fspath(target)
        self._writer = target if self._folder is None else _EventWriter(self._folder)

    def __call__(self, model: Any, epoch: int, values: dict[str, float]) -> None:
        """Write the values of an epoch."""
        for name, value in values.items():
            base = name.removeprefix("val_").removeprefix("validation_")
            self._writer.add_scalar(f"{base}/{'validation' if base != name else 'training'}", value, epoch)
        if hasattr(self._writer, "flush"):
            self._writer.flush()


class _EventWriter:
    """Writes numbers as TensorBoard reads them, from the first of them on."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._file: Any = None
        self._events = library("tensorboard.summary.writer.event_file_writer", "loggers", "TensorBoardLogger")
        self._event = library("tensorboard.compat.proto.event_pb2", "loggers", "TensorBoardLogger")
        self._summary = library("tensorboard.compat.proto.summary_pb2", "loggers", "TensorBoardLogger")

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Write a number."""
        if self._file is None:
            self._file = self._events.EventFileWriter(self._folder)
        scalar = self._summary.Summary.Value(tag=name, simple_value=value)
        summary = self._summary.Summary(value=[scalar])
        self._file.add_event(self._event.Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Let what was written be seen."""
        if self._file is not None:
            self._file.flush()


class OptunaPruning:
    """A callback that reports a value of each epoch to a trial of Optuna, and ends the trial if that is to be pruned.

    Parameters
    ----------
    trial : optuna.Trial
    monitor : str
        The value that is reported, one of the history, or of a callback of an estimator.

    Raises
    ------
    ImportError
        If optuna is missing.
    ValueError
        By ``fit``, before anything changes, if there will be no such value.
    optuna.TrialPruned
        By ``fit``, after the epoch at which the trial is to be pruned; the model is as at the end of that epoch.

    Examples
    --------
    >>> from fastnn.interop import OptunaPruning
    >>> model.fit(X, y, validation_split=0.2, callbacks=[OptunaPruning(trial)])  # doctest: +SKIP
    """

    def __init__(self, trial: Any, monitor: str = "val_loss") -> None:
        self._optuna = library("optuna", "loggers", "OptunaPruning")
        self.trial, self.monitor = trial, monitor

    def begin(self, model: Any, names: tuple[str, ...]) -> None:
        """Look whether the value will come."""
        if self.monitor not in names:
            raise ValueError(f"monitor is {self.monitor!r}, but the values of this training are {', '.join(names)}")

    def __call__(self, model: Any, epoch: int, values: dict[str, float]) -> None:
        """Report the value of an epoch."""
        if self.monitor not in values:
            raise ValueError(f"monitor is {self.monitor!r}, but the values of this training are {', '.join(values)}")
        self.trial.report(values[self.monitor], epoch)
        if self.trial.should_prune():
            raise self._optuna.TrialPruned(f"pruned after epoch {epoch}")
