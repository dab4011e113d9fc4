"""fastnn: one call of `fit_many`, its checks included."""

import fastnn as fnn
from comparison.many_problems import Many
from comparison.problems import Layers
from peers.ours import OPTIMIZERS, model

NAME = "fastnn"


class Trainer:
    """`fit_many` on models with the given weights."""

    def __init__(self, problem: Many) -> None:
        self._problem = problem

    def prepare(self) -> None:
        """Make models of the initial weights."""
        problem = self._problem
        self.models = [model(problem.layers(k), seed=problem.seed(k)) for k in range(problem.count)]
        rule = OPTIMIZERS[problem.network.rule]
        self._optimizers = [rule(float(lr)) for lr in problem.rates]
        self._penalties = problem.penalties.tolist()

    def run(self) -> None:
        """Train."""
        problem = self._problem
        fnn.fit_many(
            self.models,
            problem.x,
            problem.y,
            loss=problem.network.loss,
            optimizer=self._optimizers,
            l2=self._penalties,
            epochs=problem.epochs,
            batch_size=problem.network.batch,
            verbose=0,
        )

    def layers(self, k: int) -> Layers:
        """The weights of a network as they are now."""
        parameters = iter(self.models[k].parameters())
        return [(next(parameters), next(parameters)) for _ in self._problem.network.widths[1:]]
