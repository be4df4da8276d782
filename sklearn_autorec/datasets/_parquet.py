"""Parquet files as rows that come in blocks, each error with the file and the row group."""

import os
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from ..utils._row_draws import uniform_by_row

__all__ = ["ParquetDataset", "RowBlock", "import_arrow"]

SLICE_ROWS = 2**17  # rows that are decoded at a time


@dataclass(frozen=True)
class RowBlock:
    """A row group of a file.

    Parameters
    ----------
    path : str
    row_group : int
    first : int
        Number of its first row in the data set.
    n_rows : int
    fragment : pyarrow.dataset.ParquetFileFragment
        Of this row group alone.
    """

    path: str
    row_group: int
    first: int
    n_rows: int
    fragment: Any

    @property
    def name(self):
        return f"{self.path}, row group {self.row_group}"


class ParquetDataset:
    """A table in Parquet files, which ``fit`` reads block by block where it is larger than a
    buffer.

    It says where rows lie and how much of them may be in memory at once. What is learned from them
    is said to ``fit``: ``model.fit(ParquetDataset("clicks/"), y="click")``.

    Parameters
    ----------
    paths : str, Path or list of them
        Files, or folders, of which all ``*.parquet`` are read, those of folders in them too, in the
        order of their names. Folders called ``name=value`` make a column.
    columns : list of str or None, default=None
        Names of the columns of the table; None is all. ``fit`` leaves out the target and the
        weights, and of all columns those of groups as well.
    buffer_rows : int, default=1_048_576
        Rows, encoded, that training shuffles together: 4 bytes an id, 8 a number. A data set of at
        most so many rows is read into memory and fitted as a table is. A buffer is made of whole
        row groups and has at least one, however large that is.
    sample_rows : int, default=200_000
        Of a larger data set, rows that are held in memory at most: so many that are held out for
        early stopping, and so many drawn for what needs a table at hand.
    cache : bool, str or Path, default=False
        Whether rows, once encoded, are kept on the disk until ``fit`` is over: True in the folder
        for temporary files, or a folder. Epochs after the first then read 4 bytes an id, 8 a
        number, instead of decoding Parquet and looking values up again.

    Attributes
    ----------
    column_names : list of str
        Names of the columns of the table.
    n_rows : int
    blocks : list of RowBlock
        Row groups, in order. Files are looked at when this is asked for the first time.

    See Also
    --------
    sklearn_autorec.CTRClassifier : ``fit`` takes it as X, with the names of columns as y and
        sample_weight.

    Notes
    -----
    Needs pyarrow: ``pip install "sklearn-autorec[parquet]"``. All files must have the same columns
    of the same types, in any order; a column without a single value may be without a type.

    Examples
    --------
    >>> import pandas as pd, tempfile
    >>> from pathlib import Path
    >>> from sklearn_autorec.datasets import ParquetDataset
    >>> folder = Path(tempfile.mkdtemp())
    >>> pd.DataFrame({"user": ["ann", "bob"], "click": [0, 1]}).to_parquet(folder / "a.parquet")
    >>> data = ParquetDataset(folder)
    >>> data.n_rows, data.column_names
    (2, ['user', 'click'])
    """

    def __init__(self, paths, *, columns=None, buffer_rows=2**20, sample_rows=200_000, cache=False):
        for name, value in (("buffer_rows", buffer_rows), ("sample_rows", sample_rows)):
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} must be an int of at least 1, got {value!r}.")
        if not isinstance(cache, bool | str | os.PathLike):
            raise TypeError(f"cache must be a bool or a folder, got {cache!r}.")
        self.paths = paths
        self.columns = columns
        self.buffer_rows = int(buffer_rows)
        self.sample_rows = int(sample_rows)
        self.cache = cache
        self._source = None
        self._opened = None

    @classmethod
    def of_arrow(cls, source, **params):
        """The rows of a ``pyarrow.dataset.Dataset`` of Parquet files; ``params`` as above."""
        made = cls(list(source.files), **params)
        made._source = source
        return made

    def __repr__(self):
        return f"ParquetDataset({self.paths!r:.200})"

    def __getstate__(self):
        return {**self.__dict__, "_opened": None}

    # What is there
    # ---------------------------------------------------------------------------------------------

    @property
    def blocks(self):
        return self._open()[1]

    @property
    def n_rows(self):
        return sum(block.n_rows for block in self.blocks)

    @property
    def schema(self):
        """The pyarrow schema of all columns, those that ``columns`` leaves out too."""
        return self._open()[0]

    @property
    def column_names(self):
        return list(self.schema.names) if self.columns is None else list(self.columns)

    def _open(self):
        if self._opened is None:
            self._opened = self._look()
        return self._opened

    def _look(self):
        """Schema and row groups of all files, which must agree."""
        datasets = [self._source] if self._source is not None else self._datasets()
        fragments = [fragment for source in datasets for fragment in source.get_fragments()]
        schema, first = None, None
        for fragment in fragments:
            own = _schema_of(fragment)
            if schema is None:
                schema, first = own, fragment.path
            else:
                schema = _agreed(schema, first, own, fragment.path, self.columns)
        lacking = [name for name in self.columns or () if name not in schema.names]
        if lacking:
            raise ValueError(
                f"columns has {lacking}, which are not in {first}; its columns are {schema.names}."
            )
        blocks, start = [], 0
        for fragment in fragments:
            for group in fragment.row_groups:
                if group.num_rows:
                    alone = fragment.subset(row_group_ids=[group.id])
                    blocks.append(RowBlock(fragment.path, group.id, start, group.num_rows, alone))
                    start += group.num_rows
        if not blocks:
            raise ValueError(f"{self!r} has no rows.")
        return schema, blocks

    def _datasets(self):
        """A pyarrow data set for each path."""
        arrow = import_arrow()
        given = self.paths if isinstance(self.paths, list | tuple) else [self.paths]
        datasets = []
        for path in map(Path, given):
            if not path.exists():
                raise FileNotFoundError(f"paths: {path} is not there.")
            files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
            if not files:
                raise FileNotFoundError(f"paths: {path} has no *.parquet file.")
            options = {"format": "parquet"}
            if path.is_dir():
                options |= {"partitioning": "hive", "partition_base_dir": str(path)}
            for file in files:  # one by one, so that an error names its file
                try:
                    datasets.append(arrow.dataset([str(file)], **options))
                except (OSError, ValueError) as error:
                    raise OSError(f"{file} cannot be read as Parquet: {error}") from error
        if not datasets:
            raise ValueError(f"paths must name a file or a folder, got {self.paths!r}.")
        return datasets

    # Reading
    # ---------------------------------------------------------------------------------------------

    def slices(self, number, columns=None):
        """The rows of a block as pyarrow tables of at most 131,072 rows, in order.

        Parameters
        ----------
        number : int
            Position in ``blocks``.
        columns : list of str or None, default=None
            None is ``column_names``.

        Yields
        ------
        pyarrow.Table

        Raises
        ------
        OSError
            If the rows cannot be read, or are not as many as the file says, with the file and the
            row group.
        """
        import pyarrow as pa

        block, n_rows = self.blocks[number], 0
        columns = self.column_names if columns is None else list(columns)
        # The type of the whole data set, also of a column that has none in this file.
        schema = pa.schema([self.schema.field(name) for name in columns])
        try:
            batches = block.fragment.to_batches(
                schema=schema, columns=columns, batch_size=SLICE_ROWS, batch_readahead=1
            )
            for batch in batches:
                n_rows += len(batch)
                if len(batch):
                    yield pa.Table.from_batches([batch])
        except (OSError, ValueError, pa.ArrowException) as error:
            raise OSError(f"{block.name} cannot be read: {error}") from error
        if n_rows != block.n_rows:
            raise OSError(f"{block.name} has {n_rows} rows, its file says {block.n_rows}.")

    def read(self, columns=None):
        """All rows in memory, a pyarrow Table; see ``slices``."""
        import pyarrow as pa

        parts = [part for i in range(len(self.blocks)) for part in self.slices(i, columns)]
        return pa.concat_tables(parts)

    def sample(self, n_rows, random_state=0, columns=None):
        """Rows drawn at random, in the order of the data set.

        A row is drawn or not by a hash of its number, with the same chance for each, so that about
        ``n_rows`` come; all come if there are no more.

        Parameters
        ----------
        n_rows : int
        random_state : int, default=0
        columns : list of str or None, default=None
            None is ``column_names``.

        Returns
        -------
        pyarrow.Table

        Raises
        ------
        OSError
            See ``slices``.
        """
        import pyarrow as pa

        share, parts = n_rows / self.n_rows, []
        for i, block in enumerate(self.blocks):
            first = block.first
            for part in self.slices(i, columns):
                drawn = uniform_by_row(first, len(part), random_state) < share
                parts.append(part.filter(pa.array(drawn)))
                first += len(part)
        return pa.concat_tables(parts)


def import_arrow():
    """``pyarrow.dataset``, or an error that names the extra."""
    try:
        import pyarrow.dataset
    except ImportError as error:
        raise ImportError(
            'Reading Parquet needs pyarrow: pip install "sklearn-autorec[parquet]"'
        ) from error
    return pyarrow.dataset


def _schema_of(fragment):
    """Columns of a file, those of the names of its folders too."""
    import pyarrow as pa
    import pyarrow.dataset

    try:
        schema = fragment.physical_schema
    except (OSError, ValueError, pa.ArrowException) as error:
        raise OSError(f"{fragment.path} cannot be read as Parquet: {error}") from error
    keys = pa.dataset.get_partition_keys(fragment.partition_expression)
    fields = [pa.field(name, pa.scalar(value).type) for name, value in keys.items()]
    return pa.schema([*(f.with_metadata(None) for f in schema), *fields])


def _agreed(schema, first, own, path, columns):
    """The schema of the files so far and one more.

    Raises
    ------
    ValueError
        If a column lacks in one of them, or has another type.
    """
    import pyarrow as pa

    wanted = schema.names if columns is None else [n for n in schema.names if n in columns]
    missing = [name for name in wanted if name not in own.names]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}, which {first} has.")
    new = [name for name in own.names if name not in schema.names]
    if new and (columns is None or set(new) & set(columns)):
        raise ValueError(f"{path} has the columns {new}, which {first} lacks.")
    for name in wanted:
        before, here = schema.field(name).type, own.field(name).type
        if pa.types.is_null(before):
            schema = schema.set(schema.get_field_index(name), own.field(name))
        elif before != here and not pa.types.is_null(here):
            raise ValueError(
                f"Column {name!r} has the type {here} in {path}, {before} in {first}; write it "
                f"with one type."
            )
    return schema
