"""Tables whose rows come in blocks, as transformers read them."""

import functools
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from ..utils._row_draws import uniform_by_row
from ..utils._typing import Method
from ._sources import is_dataset, opened, table_or_dataset

__all__ = [
    "TableBlocks",
    "drawn_rows",
    "is_dataset",
    "opened_blocks",
    "refuse_dataset",
    "takes_datasets",
]


class TableBlocks:
    """Some columns of a data set, again and again in the same slices.

    Parameters
    ----------
    dataset : ParquetDataset
    columns : list of str
        Of the table.
    target : str or None
    weight : str or None
        Names of further columns.
    """

    def __init__(self, dataset, columns, target=None, weight=None):
        self.dataset, self.columns = dataset, columns
        self.target, self.weight = target, weight

    def __iter__(self):
        """Tables (pyarrow), targets and weights (None where there are none), slice by slice, each
        with the name of its block.
        """
        names = [*self.columns, *(n for n in (self.target, self.weight) if n is not None)]
        for number, block in enumerate(self.dataset.blocks):
            for part in self.dataset.slices(number, names):
                yield block.name, part.select(self.columns), *self._further(part, block)

    def _further(self, part, block):
        """Targets and weights of a slice."""
        y = weight = None
        if self.target is not None:
            column = part.column(self.target)
            if column.null_count:
                raise ValueError(
                    f"{block.name}: the target {self.target!r} is missing in {column.null_count} "
                    f"of {len(column)} rows."
                )
            y = column.to_pandas().to_numpy()
        if self.weight is not None:
            weight = part.column(self.weight).to_pandas().to_numpy(dtype=np.float64)
            if not (np.isfinite(weight).all() and (weight >= 0).all()):
                raise ValueError(
                    f"{block.name}: the sample_weight {self.weight!r} must hold finite numbers of "
                    f"at least 0."
                )
        return y, weight

    def sample(self):
        """About ``sample_rows`` rows that are drawn (all, of as many or fewer): table, targets and
        weights.
        """
        import pyarrow as pa

        share, first, parts = self.dataset.sample_rows / self.dataset.n_rows, 0, []
        for _, X, y, weight in self:  # which rows are drawn is as `ParquetDataset.sample` has it
            drawn = uniform_by_row(first, len(X), 0) < share
            first += len(X)
            parts.append(
                (X.filter(pa.array(drawn)), *(None if a is None else a[drawn] for a in (y, weight)))
            )
        tables, *further = zip(*parts, strict=True)
        return pa.concat_tables(tables), *(
            None if arrays[0] is None else np.concatenate(arrays) for arrays in further
        )

    def count(self, encoder, positions):
        """Let an encoder count the columns at some positions, of all rows."""
        names = [self.columns[i] for i in positions]
        for block, X, _, weight in self:
            known = {} if weight is None else {"sample_weight": weight}
            try:
                encoder.partial_fit(X.select(names), **known)
            except (ValueError, TypeError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"{block}: {error}") from error

    def encoded(self, encoder, positions):
        """Encoded tables of the columns at some positions, targets and weights, slice by slice."""
        names = [self.columns[i] for i in positions]
        for _, X, y, weight in self:
            yield encoder.encode(X.select(names)), y, weight


@contextmanager
def opened_blocks(X, y=None, sample_weight=None, *, needs_target):
    """A data set as `TableBlocks`.

    Raises
    ------
    TypeError, ValueError
        If y or sample_weight are no names of columns of it.
    """
    with opened(X) as dataset:
        given = {"y": y, "sample_weight": sample_weight}
        for name, value in given.items():
            if value is None and not (name == "y" and needs_target):
                continue
            if not isinstance(value, str):
                raise TypeError(
                    f"{name} must be the name of a column where X is a data set, got "
                    f"{value!r:.100}."
                )
            if value not in dataset.schema.names:
                raise ValueError(
                    f"{name}={value!r} is no column of the data set; its columns are "
                    f"{dataset.schema.names}."
                )
        columns = [name for name in dataset.column_names if name not in given.values()]
        yield TableBlocks(dataset, columns, y, sample_weight)


def drawn_rows(X, y, *, needs_target=True):
    """About ``sample_rows`` rows of a data set in memory: a DataFrame, and targets (or None); see
    `opened_blocks`.
    """
    with opened_blocks(X, y, needs_target=needs_target) as blocks:
        table, targets, _ = blocks.sample()
    return table.to_pandas(), targets


def takes_datasets(method: Method) -> Method:
    """Decorate a method that fits on X and y: what `table_or_dataset` makes of X comes in."""

    @functools.wraps(method)
    def with_rows(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        y = args[0] if args else kwargs.get("y")
        return method(self, table_or_dataset(X, y), *args, **kwargs)

    return cast(Method, with_rows)


def refuse_dataset(X, what):
    """Refuse a data set where all rows must be in memory.

    Raises
    ------
    TypeError
    """
    if is_dataset(X):
        raise TypeError(
            f"{what} needs rows in memory, got a {type(X).__name__}; call fit with it, and "
            f"transform with tables."
        )
