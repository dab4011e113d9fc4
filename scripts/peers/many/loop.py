"""fastnn: `fit` in a loop over the models."""

from peers.many import ours

NAME = "fit in a loop"


class Trainer(ours.Trainer):
    """`fit` of one model after the other."""

    def run(self) -> None:
        """Train."""
        problem = self._problem
        for model, optimizer, l2 in zip(self.models, self._optimizers, self._penalties, strict=True):
            model.fit(
                problem.x,
                problem.y,
                loss=problem.network.loss,
                optimizer=optimizer,
                l2=l2,
                epochs=problem.epochs,
                batch_size=problem.network.batch,
                verbose=0,
            )
