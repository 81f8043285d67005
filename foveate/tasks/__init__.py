"""What a network is asked to do: head, loss and metrics over a data set."""

from foveate.tasks.classification import Classification

__all__ = ["Classification"]
