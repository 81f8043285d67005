"""How fast an arm's runs come to what the plain network ends with, as a frozen value."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Convergence:
    """When each run of an arm is as good as the plain network's run of the same seed at its end.

    Attributes:
        seeds: that both logged the judged metric epoch by epoch, on the validation part where there is one, and those
            in which this arm's run failed.
        epochs: of each seed, the first epoch after which the score is as good as the plain network's after its last;
            None: none is.
        median: of the epochs, where None is later than any; None: half of the runs or more do not come there.
        seconds: of the training steps up to the median, by the measured time of a step; None: not known.
        ratio: of these seconds to the plain network's own; None: not known.
        diverged: seeds whose run failed because losses or scores were no numbers.
        runs: finished and failed.
        text: "6 epochs (5 of 5 seeds)".
    """

    seeds: tuple[int, ...]
    epochs: tuple[int | None, ...]
    median: float | None
    seconds: float | None
    ratio: float | None
    diverged: tuple[int, ...]
    runs: int
    text: str
