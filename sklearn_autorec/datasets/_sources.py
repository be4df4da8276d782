"""Tables of other libraries whose rows are not in memory, as Parquet files."""

import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from ..utils._frames import eager, native
from ._parquet import ParquetDataset, import_arrow

__all__ = ["is_dataset", "is_lazy", "opened", "table_or_dataset"]

GROUP_ROWS = 2**17  # rows of a row group that is written


def table_or_dataset(X, y, name="y"):
    """What ``fit`` is given, with rows that are there or as a data set.

    A table that is computed when it is asked for (a LazyFrame, a dask DataFrame) is a data set
    where ``y`` is the name of one of its columns, and is collected where ``y`` has the targets.
    ``name`` is what messages call ``y``.

    Raises
    ------
    TypeError
        If ``y`` is a name and X is no data set.
    """
    if is_dataset(X) and (isinstance(y, str) or not is_lazy(X)):
        return X
    if isinstance(y, str):
        raise TypeError(
            f"{name}={y!r:.100} is the name of a column, as it is given with a data set (a "
            f"ParquetDataset, pyarrow data set, polars LazyFrame or dask DataFrame), but X is a "
            f"{type(X).__name__}; give the targets as an array."
        )
    return eager(X)


def is_lazy(X):
    """Whether a table is one that is computed when it is asked for."""
    return _kind(X) in ("polars", "dask")


def is_dataset(X):
    """Whether a table is one whose rows come in blocks: a `ParquetDataset`, a
    ``pyarrow.dataset.Dataset``, a polars LazyFrame or a dask DataFrame.
    """
    if isinstance(X, pd.DataFrame | np.ndarray | list | dict):  # at once: a row is predicted soon
        return False
    return isinstance(X, ParquetDataset) or _kind(X) is not None


def _kind(X):
    """The library of a table that is computed when it is asked for; None of all else."""
    arrow = sys.modules.get("pyarrow.dataset")
    if arrow is not None and isinstance(X, arrow.Dataset):
        return "pyarrow"
    X = native(X)
    if type(X).__module__.startswith("polars.") and hasattr(X, "sink_parquet"):
        return "polars"
    if hasattr(X, "npartitions") and hasattr(X, "partitions") and hasattr(X, "columns"):
        return "dask"
    return None


@contextmanager
def opened(X):
    """A data set as a `ParquetDataset`.

    What lies in Parquet files already is read where it is. All else is computed once, into files in
    a temporary folder, which is gone in the end.

    Parameters
    ----------
    X : ParquetDataset, pyarrow.dataset.Dataset, polars.LazyFrame or dask DataFrame

    Yields
    ------
    ParquetDataset
    """
    if isinstance(X, ParquetDataset):
        yield X
        return
    arrow, kind, X = import_arrow(), _kind(X), native(X)
    if kind == "pyarrow" and _lies_in_files(X, arrow):
        yield ParquetDataset.of_arrow(X)
        return
    with TemporaryDirectory(prefix="sklearn_autorec-") as folder:
        {"pyarrow": _write_arrow, "polars": _write_polars, "dask": _write_dask}[kind](
            X, Path(folder)
        )
        yield ParquetDataset(folder)


def _lies_in_files(X, arrow):
    """Whether the rows of a data set are those of its files: filters and projections are seen by
    scanners, not by what reads its files.
    """
    return (
        isinstance(X, arrow.FileSystemDataset)
        and isinstance(X.format, arrow.ParquetFileFormat)
        and not getattr(X, "_scan_options", {})
    )


def _write_arrow(X, folder):
    import pyarrow.parquet as pq

    with pq.ParquetWriter(folder / "rows.parquet", X.schema) as writer:
        for batch in X.scanner(batch_size=GROUP_ROWS).to_batches():
            if len(batch):
                writer.write_batch(batch, row_group_size=GROUP_ROWS)


def _write_polars(X, folder):
    X.sink_parquet(folder / "rows.parquet", row_group_size=GROUP_ROWS)


def _write_dask(X, folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    digits = len(str(X.npartitions))
    for i in range(X.npartitions):  # one at a time, as memory is short
        table = pa.Table.from_pandas(X.partitions[i].compute(), preserve_index=False)
        path = folder / f"partition-{i:0{digits}d}.parquet"
        pq.write_table(table, path, row_group_size=GROUP_ROWS)
