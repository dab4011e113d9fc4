"""What the command line asks of every section."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """The peers by their keys, the dtypes, and how much to measure."""

    peers: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "float64")
    rounds: int = 7
    epochs: int = 1
    quick: bool = False
    cores: int = 1

    @property
    def pause(self) -> float:
        """Seconds between contenders: on several cores, threads of the last one may still spin and wait for work."""
        return 0.1 if self.cores > 1 else 0.0


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)
