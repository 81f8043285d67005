"""A paper's figures for the arms of a study, to stand beside its own."""

from typing import Annotated

from pydantic import Field, model_validator

from foveate.metric import Frozen

Text = Annotated[str, Field(min_length=1, max_length=500)]


class Published(Frozen):
    """A table of a paper: shown beside the study's results and read by no computation.

    Attributes:
        source: the paper and which of its tables.
        setting: network, data and measure there.
        columns: of the table, with their units, such as "top-1 error, %".
        rows: label of a variant → its figures, in the order of the columns; a row may end before the last column.
        note: what else a reader has to know.
    """

    source: Text
    setting: Text
    columns: tuple[Text, ...] = Field(min_length=1, max_length=8)
    rows: dict[str, tuple[float, ...]] = Field(min_length=1, max_length=1000)
    note: str = Field("", max_length=1000)

    @model_validator(mode="after")
    def _rows_fit(self) -> "Published":
        for label, row in self.rows.items():
            if not 1 <= len(row) <= len(self.columns):
                raise ValueError(f"row {label!r}: wanted 1 to {len(self.columns)} figures; got {len(row)}")
        return self

    def figure(self, label: str, column: int) -> float | None:
        """The figure of an arm in a column; None: the paper's is not known."""
        row = self.rows.get(label, ())
        return row[column] if column < len(row) else None

    def shown(self, label: str, column: int) -> str:
        """The figure with the decimals of its column; "not known to us" where there is none."""
        value = self.figure(label, column)
        if value is None:
            return "not known to us"
        column_of = [row[column] for row in self.rows.values() if column < len(row)]
        return f"{value:,.{max(len(f'{one:.6f}'.rstrip('0').partition('.')[2]) for one in column_of)}f}"
