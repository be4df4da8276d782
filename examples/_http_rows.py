"""Rows of a request as a table for a model, checked against what the model has seen in training."""

import datetime
import math
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sklearn_autorec.preprocessing import FieldEncoder

MAX_ERRORS = 20  # of a request that are told
LARGEST = float(np.finfo(np.float32).max)
_NUMBER = re.compile(r"\s*[+-]?[\d.]+(e[+-]?\d+)?\s*", re.IGNORECASE)


class RowsError(ValueError):
    """Rows that the model cannot take.

    Parameters
    ----------
    errors : list of dict
        "row" (from 0), "column" (None for what concerns the row), "message".
    """

    def __init__(self, errors):
        super().__init__("; ".join(error["message"] for error in errors))
        self.errors = errors


@dataclass(frozen=True)
class Column:
    """What the cells of a column may be.

    Parameters
    ----------
    name : str
    kind : {"id", "number", "both", "sequence", "vector", "time"} or None
        As in ``FieldEncoder.kinds_``; None where a pipeline begins with another step.
    time : {"time", "zoned time", "duration"} or None
        Of columns that held times in training: they take text.
    types : frozenset of type
        Of cells (of items, in lists) that are taken as they are.
    text : bool
        Whether the text of a sequence column is split into items.
    length : int or None
        Of vectors.
    """

    name: str
    kind: str | None = None
    time: str | None = None
    types: frozenset = frozenset({str, int, float, bool})
    text: bool = False
    length: int | None = None

    @property
    def takes(self):
        """What messages say that the column takes."""
        if self.time is not None:
            zone = {"time": " without a zone", "zoned time": " with a zone"}.get(self.time, "")
            return "a duration such as '1 days 02:30:00'" if not zone else f"ISO 8601 text{zone}"
        names = {str: "text", int: "a number", bool: "true or false"}
        single = " or ".join(name for type_, name in names.items() if type_ in self.types)
        if self.kind == "vector":
            return f"a list of {self.length} numbers"
        if self.kind != "sequence":
            return single
        return f"a list of {single}" + (" or text that is split" if self.text else "")

    def cell(self, value):
        """A cell for the table; a ValueError for what the column does not take."""
        if value is None:
            return None
        if self.kind == "vector":
            if not isinstance(value, list) or len(value) != self.length:
                raise ValueError
            for number in value:
                self._check(number)
        elif self.kind == "sequence":
            if not (self.text and isinstance(value, str)):
                if not isinstance(value, list):
                    raise ValueError
                for item in value:
                    self._check(item)
        elif self.time is not None:
            return _time(value, self.time)
        else:
            self._check(value)
        return value

    def _check(self, value):
        if value is not None and type(value) not in self.types:
            raise ValueError
        if type(value) is float and not math.isfinite(value):
            raise ValueError
        numbers = self.kind in ("number", "both", "vector")
        if numbers and value is not None and abs(value) > LARGEST:
            raise ValueError


def _time(value, kind):
    """ISO 8601 text as a Timestamp, other text as a Timedelta; missing where it is empty."""
    if not isinstance(value, str):
        raise ValueError
    if not value:
        return None
    if kind == "duration":
        if _NUMBER.fullmatch(value):  # of which unit?
            raise ValueError
        return pd.Timedelta(value)
    time = datetime.datetime.fromisoformat(value)
    if (time.tzinfo is not None) != (kind == "zoned time"):
        raise ValueError
    return pd.Timestamp(time)


class RowReader:
    """Makes tables of rows that are dicts, or says which of their cells a model cannot take.

    Parameters
    ----------
    model : fitted estimator
        With ``feature_names_in_``.

    Attributes
    ----------
    columns : list of Column
        In the order of the table on which the model was fitted.
    """

    def __init__(self, model):
        names = getattr(model, "feature_names_in_", None)
        if names is None:
            raise ValueError(
                "The model was fitted on a table without column names, so rows cannot name them."
            )
        encoder = getattr(model, "encoder_", None)
        encoder = getattr(encoder, "estimator", encoder)  # of a FrozenEstimator
        known = isinstance(encoder, FieldEncoder)
        self.columns = columns_of(encoder) if known else [Column(name) for name in names]
        self.names = [column.name for column in self.columns]
        self._name_set = set(self.names)
        self._objects = known

    def table(self, rows):
        """A DataFrame of rows.

        Parameters
        ----------
        rows : list of dict
            Column name to what JSON has: text, number, true, false, null, lists of these.

        Raises
        ------
        RowsError
            Names each column that is missing, unknown or of the wrong type (the first 20 of them).
        """
        errors, cells = [], []
        for k, row in enumerate(rows):
            cells.append(self._cells(k, row, errors))
            if len(errors) >= MAX_ERRORS:
                break
        if errors:
            raise RowsError(errors[:MAX_ERRORS])
        if self._objects:
            # The encoder reads single values, whatever stands beside them: an integer beside None
            # would become a float, and be another id beyond 2^53, in a column of numbers.
            return pd.DataFrame(cells, columns=self.names, dtype=object)
        columns = zip(*cells, strict=True)
        return pd.DataFrame(
            {name: plain(list(column)) for name, column in zip(self.names, columns, strict=True)}
        )

    def _cells(self, k, row, errors):
        if not isinstance(row, dict):
            message = f"A row must be an object of column names and values, got {row!r:.100}."
            errors.append({"row": k, "column": None, "message": message})
            return None
        if row.keys() != self._name_set:
            for name in self.names:
                if name not in row:
                    message = f"Column {name!r} is missing; give null for a missing value."
                    errors.append({"row": k, "column": name, "message": message})
            for name in row:
                if name not in self._name_set:
                    message = f"The model has no column {name!r:.100}."
                    errors.append({"row": k, "column": name, "message": message})
            return None
        cells = []
        for column in self.columns:
            value = row[column.name]
            try:
                cells.append(column.cell(value))
            except (ValueError, OverflowError):
                message = f"Column {column.name!r} takes {column.takes}, got {value!r:.100}."
                errors.append({"row": k, "column": column.name, "message": message})
        return cells


def columns_of(encoder):
    """What the columns of a fitted `FieldEncoder` take, list of Column."""
    values = {}
    for positions, categories in (
        (encoder.sequence_, encoder.sequence_categories_),
        (encoder.categorical_, encoder.categories_),
    ):
        values |= dict(zip(positions.tolist(), categories, strict=True))
    lengths = dict(zip(encoder.vector_.tolist(), encoder.vector_lengths_, strict=True))
    separators = encoder.sequence_features if isinstance(encoder.sequence_features, dict) else {}
    split = {key for key, separator in separators.items() if separator is not None}
    columns = []
    for i, (name, kind) in enumerate(encoder.kinds_.items()):
        numbers = kind in ("number", "both", "vector", "time")
        types = {int, float} if numbers else types_of(values[i])
        columns.append(
            Column(
                name=name,
                kind=kind,
                time=encoder.times_.get(name),
                types=frozenset(types),
                text=name in split or i in split,
                length=lengths.get(i),
            )
        )
    return columns


def types_of(categories):
    """Types of JSON values that can be known values of a vocabulary; all, if it names none."""
    if not len(categories):  # hashed, or nothing but missing
        return {str, int, float, bool}
    if categories.dtype != object:
        truth = {bool} if set(categories.tolist()) <= {0, 1} else set()
        return {int, float} | truth
    if any(_NUMBER.fullmatch(text) for text in categories):
        return {str, int, float}
    return {str}


def plain(column):
    """Cells of a column that no encoder reads, in the dtype that their table would have had.

    Integers beside None stay integers (objects), since floats do not hold all of them.
    """
    types = {type(value) for value in column if value is not None}
    if types <= {int, float} and types:
        whole = types == {int}
        if not whole and all(abs(v) <= 2**53 for v in column if type(v) is int):
            return np.array([np.nan if v is None else v for v in column], dtype=np.float64)
        if whole and None not in column and all(-(2**63) <= v < 2**63 for v in column):
            return np.array(column, dtype=np.int64)
    return pd.Series(column, dtype=object)
