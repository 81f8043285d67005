"""How one network is trained. A list in place of a value (`lr = [0.003, 0.01]`) is a choice: each is tried."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from foveate.metric import Frozen

MOST = 1_000_000  # of any count
MOST_CHOICES = 64  # combinations of the listed values
FINE_TUNING_LR = {"sgd": 0.01, "adamw": 1e-4}  # the defaults of a study that starts from weights
MACHINE = {"device", "threads", "amp", "channels_last", "compile"}  # one for a study: its costs are measured with them


class Choices(BaseModel):
    """Values of which some may be given as a list. A field then has the first of its list, `each` gives all
    combinations, and the model is dumped with the lists."""

    _lists: dict[str, tuple[Any, ...]] = PrivateAttr(default_factory=dict)

    @property
    def listed(self) -> tuple[str, ...]:
        """The fields that were given as lists, in the order of the fields."""
        return tuple(self._lists)

    def each(self) -> tuple[dict[str, Any], ...]:
        """Every combination of the listed values; ({},) where nothing is listed."""
        return tuple(dict(zip(self._lists, values, strict=True)) for values in itertools.product(*self._lists.values()))

    def single(self, values: Mapping[str, Any]) -> Self:
        """The same with one of the combinations."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | dict(values))

    @model_validator(mode="wrap")
    @classmethod
    def _take_the_first(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        given = value if isinstance(value, Mapping) else {}
        lists = {name: given[name] for name in cls.model_fields if isinstance(given.get(name), (list, tuple))}
        if not lists:
            return handler(value)
        for name, entry in lists.items():
            _check_list(name, entry)
        first = {name: entry[0] for name, entry in lists.items()}
        made = handler({**given, **first})
        for name, entry in lists.items():
            values = [getattr(handler({**given, **first, name: one}), name) for one in entry]
            if twice := [one for number, one in enumerate(values) if one in values[:number]]:
                raise _error(name, f"wanted different values; got {twice[0]!r} twice", entry)
            made._lists[name] = tuple(values)
        count = len(made.each())
        if count > MOST_CHOICES:
            names = " × ".join(made.listed)
            raise _error(list(lists)[-1], f"wanted at most {MOST_CHOICES} combinations of {names}; got {count}", entry)
        return made

    @model_serializer(mode="wrap")
    def _with_lists(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return handler(self) | {name: list(values) for name, values in self._lists.items()}


class Training(Choices, Frozen):
    """How one network is trained; a list of values is a choice made on the validation part, for each arm and seed."""

    epochs: int = Field(10, ge=1, le=MOST)
    batch_size: int = Field(64, ge=1, le=MOST)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    warmup_epochs: float = Field(1.0, ge=0)
    warmup_ratio: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of the rate at the first step, from which warm-up is linear; None: one step's part",
    )
    schedule: Literal["cosine", "poly"] = "cosine"
    power: float | None = Field(None, gt=0, description='of schedule = "poly"; None: 1, a straight line')
    head_lr: float = Field(1.0, gt=0, description="learning rates of decoder or classifier, in rates of the network's")
    clip: float | None = Field(None, gt=0, description="the largest norm of all gradients together; None: any")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of a running average of the weights, which is evaluated; None: off"
    )
    early_stop: int = Field(0, ge=0, le=MOST, description="epochs without a lower loss on the validation part; 0: off")
    amp: bool = False
    channels_last: bool = False
    compile: bool = Field(False, description="of the training step, by torch.compile")
    device: str = "cpu"
    threads: int = Field(1, ge=1, le=4096, description="CPU threads of one run; part of what makes it repeatable")

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if self.power is not None and self.schedule != "poly":
            raise ValueError(f'power goes with schedule = "poly"; got schedule = "{self.schedule}"')
        if self.warmup_ratio is not None and not self.warmup_epochs:
            raise ValueError("warmup_ratio goes with warmup_epochs above 0; got 0")
        return self


def for_fine_tuning(train: Any) -> Any:
    """The training of a study that starts from weights: with no learning rate of its own it has one for fine-tuning.

    What is no training is returned as it is, and reported where it is checked.
    """
    try:
        training = Training.model_validate(train)
    except ValidationError:
        return train
    if "lr" in training.model_fields_set:
        return train
    if "optimizer" in training.listed:
        reason = "wanted a value beside the list of optimizers, each of which has its own for fine-tuning; got none"
        raise ValueError(f"train.lr: {reason}")
    training = training.model_copy(update={"lr": FINE_TUNING_LR[training.optimizer]})
    training.model_fields_set.discard("lr")  # another optimizer, given later, has another default
    return training


def validation_name(metric: str) -> str:
    """What a run's row of this metric on the validation part is called."""
    return f"{metric} (validation)"


def _check_list(name: str, entry: Sequence[Any]) -> None:
    if name in MACHINE:
        raise _error(
            name, f"wanted one value for all runs, as it belongs to the machine; got a list {list(entry)}", entry
        )
    if len(entry) < 2:
        raise _error(name, f"wanted a value, or a list of 2 or more to choose from; got {list(entry)}", entry)


def _error(name: str, reason: str, given: Any) -> ValidationError:
    # braces would be read as places for values
    kind = PydanticCustomError("value_error", "{reason}", {"reason": reason})
    details = InitErrorDetails(type=kind, loc=(name,), input=given)
    return ValidationError.from_exception_data("choices", [details])
