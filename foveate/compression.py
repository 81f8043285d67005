"""How a network of a study is made smaller: by pruning, and by learning from a larger one."""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, model_validator

from foveate.metric import Frozen

MOST_EPOCHS = 1_000_000


class Pruning(Frozen):
    """Structured pruning of a trained network, and its training afterwards. A number stands for its amount.

    Attributes:
        amount: part of the channels of each layer that goes.
        importance: which stay: those with the largest weights, or random ones (to compare with).
        epochs: of the training afterwards; None: those of the study.
        lr: its highest learning rate; None: that of the study.
    """

    amount: float = Field(gt=0, lt=1)
    importance: Literal["magnitude", "random"] = "magnitude"
    epochs: int | None = Field(None, ge=1, le=MOST_EPOCHS)
    lr: float | None = Field(None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _amount_alone(cls, value: Any) -> Any:
        return {"amount": value} if isinstance(value, int | float) and not isinstance(value, bool) else value

    @property
    def name(self) -> str:
        """In words."""
        parts = [
            f"{name} {value}" for name, value in self.model_dump(exclude_defaults=True).items() if name != "amount"
        ]
        return f"pruned by {self.amount:g}" + (f" ({', '.join(parts)})" if parts else "")


class Distillation(Frozen):
    """What a network learns from a trained one, its teacher, besides its task. Text stands for the teacher.

        loss = (1 − logits) · task + logits · T² KL(teacher, T ‖ network, T) + features · … + attention · …

    Attributes:
        teacher: a run of a study, "DIR[:ARM[:SEED]]"; with weights: a network as `build_network` takes it.
        weights: a file with the teacher's weights.
        options: of the teacher's constructor, with weights.
        logits: weight of its outputs, 0 to 1 (Hinton, Vinyals, Dean 2015, arXiv:1503.02531).
        temperature: T of both softmaxes.
        features: weight of how alike its maps find the items of a batch (Tung, Mori 2019, arXiv:1907.09682).
        attention: weight of its attention maps (Zagoruyko, Komodakis 2017, arXiv:1612.03928).
    """

    teacher: str = Field(min_length=1, max_length=4096)
    weights: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    logits: float = Field(0.9, ge=0, le=1)
    temperature: float = Field(4.0, gt=0)
    features: float = Field(0.0, ge=0)
    attention: float = Field(0.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _teacher_alone(cls, value: Any) -> Any:
        return {"teacher": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _something_is_learnt(self) -> "Distillation":
        if not (self.logits or self.features or self.attention):
            raise ValueError("wanted a weight above 0 for logits, features or attention; got none")
        if self.options and self.weights is None:
            raise ValueError("options of a teacher go with its weights; a study knows how its networks are built")
        return self

    def resolved(self, absolute: Callable[[str], str], reference: Callable[[str], str]) -> "Distillation":
        """With absolute paths: of the study's folder, or of the file of weights and a network's own file."""
        if self.weights is None:
            folder, colon, run = self.teacher.partition(":")
            return self.model_copy(update={"teacher": absolute(folder) + colon + run})
        return self.model_copy(update={"teacher": reference(self.teacher), "weights": absolute(self.weights)})

    @property
    def name(self) -> str:
        """In words, without the teacher's place."""
        usual = {"logits": 0.9, "temperature": 4.0, "features": 0.0, "attention": 0.0}
        parts = [f"{name} {getattr(self, name):g}" for name, value in usual.items() if getattr(self, name) != value]
        return "distilled" + (f" ({', '.join(parts)})" if parts else "")
