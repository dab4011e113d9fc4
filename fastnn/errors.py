"""The exception of fastnn's own; bad input raises ValueError and TypeError."""


class DivergenceError(ArithmeticError):
    """Training left the finite numbers and stopped; the model keeps the last finite weights.

    Attributes
    ----------
    epoch, batch : int
        Where it happened, both counted from 0; ``model.history`` holds the epochs before it.
    """

    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__(epoch, batch)
        self.epoch = epoch
        self.batch = batch

    def __str__(self) -> str:
        return (
            f"training diverged in epoch {self.epoch} at batch {self.batch} (both counted from 0), and the model keeps "
            "the last finite weights: use a smaller lr, or scale X to about zero mean and unit variance"
        )
