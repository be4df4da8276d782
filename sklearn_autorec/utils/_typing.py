"""Types that the hints of public functions share."""

import os
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "ArrayLike", "Column", "FilePath", "Floats", "Method", "RandomState", "Table"]


class _TableLike(Protocol):
    """What tables of pandas, polars and pyarrow and arrays of rows and columns have in common."""

    @property
    def shape(self) -> tuple[Any, ...]: ...

    def __len__(self) -> int: ...


class _Lazy(Protocol):
    """What lazy tables and data sets have: columns, whose rows may be read later."""

    @property
    def columns(self) -> Any: ...


Table: TypeAlias = _TableLike | _Lazy | list[Any] | dict[str, Any]
Column: TypeAlias = ArrayLike | None  # a value for each row, or none
Array: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]
FilePath: TypeAlias = str | os.PathLike[str]
RandomState: TypeAlias = int | np.random.RandomState | np.random.Generator | None

# What a decorator takes and gives back: it leaves the signature as it is.
Method = TypeVar("Method", bound=Callable[..., Any])
