"""The exceptions of fastnn's own; bad input raises ValueError and TypeError."""


class DivergenceError(ArithmeticError):
    """Training left the finite numbers and stopped; the model keeps the last finite weights.

    Attributes
    ----------
    epoch, batch : int
        Where it happened, both counted from 0 within the fit, as indices are; the message counts from 1, as the lines
        that ``fit`` prints. ``model.history`` holds the epochs before it.
    epochs : int
        How many epochs were asked for.
    """

    def __init__(self, epoch: int, batch: int, epochs: int) -> None:
        super().__init__(epoch, batch, epochs)
        self.epoch = epoch
        self.batch = batch
        self.epochs = epochs

    def __str__(self) -> str:
        return (
            f"training diverged in epoch {self.epoch + 1} of {self.epochs}, at its batch {self.batch + 1}, and the "
            "model keeps the last finite weights: use a smaller lr, or scale X to about zero mean and unit variance"
        )


class RankError(RuntimeError):
    """Another process raised something while all of them trained one network, see ``fit`` with ``comm=``.

    ValueError and TypeError come as such, with the number of the process in the message.

    Attributes
    ----------
    rank : int
        The number of the process.
    """

    def __init__(self, rank: int, message: str) -> None:
        super().__init__(rank, message)
        self.rank = rank

    def __str__(self) -> str:
        return f"rank {self.rank} raised {self.args[1]}"
