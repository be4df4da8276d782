"""FieldCrosser: columns from combinations of columns."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..datasets._table_blocks import is_dataset, opened_blocks, refuse_dataset, takes_datasets
from ..preprocessing._columns import CATEGORICAL, NUMERIC, read_columns
from ..preprocessing._dicts import takes_rows
from ..preprocessing._names import labels_of, output_labels, refuse_new_names, unused_names
from ..preprocessing._vocabulary import MISSING
from ..utils._defaults import ComponentEstimator
from ..utils._docs import inherits_entries
from ..utils._parameters import stores_parameters
from ..utils._sklearn import HasMethods, Interval, StrOptions, of_raw_tables, validate_parameters
from ..utils._state import all_or_nothing, reads_once
from ..utils._typing import Array, Column, Table
from ._combinations import Combinations
from ._reading import (
    MAKERS,
    append_block,
    bin_names,
    checked_encoder,
    column_edges,
    column_ids,
    column_sizes,
    encode_as_fitted,
    resolve_bins,
    resolve_crosses,
    select,
    value_names,
    warn_of_vectors,
)

SEPARATOR = " x "


@inherits_entries
class FieldCrosser(TransformerMixin, ComponentEstimator):
    """Add a column for each cross: an id for each combination of the values of its columns.

    Parameters
    ----------
    crosses : list of tuples of column names or positions
        Columns of each cross, two or more.
    min_count : int, default=2
        Combinations seen in fewer training rows share the id of unseen ones (which so occurs in
        training).
    max_ids : int, default=1_048_576
        Crosses with more combinations than this are hashed into so many ids and keep no vocabulary;
        new combinations then share an id with old ones.
    n_bins : int or dict of column to int, default=10
        Into how many bins at most numeric columns are cut (10 for columns not in the dict). Bins
        hold about equally many training rows; values with many rows have a bin of their own.
    output : {"ids", "onehot"}, default="ids"
        Columns of integers, or a scipy CSR matrix of indicators for linear models.
    scales : dict of str to float or None, default=None
        With "onehot", what indicators of a column ("user") or cross ("user x day") are instead of
        1: a linear model shrinks the weights of larger ones less.
    append : bool, default=True
        Whether the columns of the table come before the crosses: as they are with "ids", encoded
        with "onehot".
    encoder : FieldEncoder or None, default=None
        Tells how columns are read, such as ``FieldEncoder(categorical_features=["user"],
        min_frequency=10)``; its ``numeric`` must be "rank" or "quantile". It is cloned.

    Attributes
    ----------
    crosses_ : list of tuple of str
        Columns of each cross, by name ("x0", "x1", ... where there are none).
    n_ids_ : list of int
        Number of ids of each cross.
    encoder_ : FieldEncoder
        The fitted encoder.
    {n_features_in_, feature_names_in_}

    Notes
    -----
    Ids are 0 where all columns of the cross are missing, 1 for combinations not seen in training or
    too rare, then 2, 3, ... by frequency (equal counts by the ids of the columns). A missing cell
    beside others is a value like any other. A value never met makes the combination unseen, or goes
    with the rare values where ``encoder`` has a ``min_frequency``.

    pandas, polars and pyarrow tables come out as they came in. Arrays get columns of ids on the
    right, in the type that holds both; since ids in an array of floats look like numbers, put a
    table before a network.

    Sequence columns cannot be crossed; with "onehot" they become counts of their items.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"user": ["ann", "bob", "ann", None], "day": ["mon", "mon", "mon", "tue"]})
    >>> crosser = FieldCrosser([("user", "day")], min_count=1).fit(X)
    >>> crosser.transform(X)
      user  day  user x day
    0  ann  mon           2
    1  bob  mon           4
    2  ann  mon           2
    3  NaN  tue           3
    >>> FieldCrosser([("user", "day")], output="onehot", append=False).fit_transform(X).toarray()
    array([[0., 0., 1.],
           [0., 1., 0.],
           [0., 0., 1.],
           [0., 1., 0.]])
    """

    _makers = MAKERS
    _parameter_constraints = {
        "crosses": [list, tuple],
        "min_count": [Interval(Integral, 1, None, closed="left")],
        "max_ids": [Interval(Integral, 1, 2**31 - 3, closed="both")],
        "n_bins": [Interval(Integral, 1, 2**20, closed="both"), dict],
        "output": [StrOptions({"ids", "onehot"})],
        "scales": [None, dict],
        "append": ["boolean"],
        "encoder": [None, HasMethods(["fit", "encode"])],
    }

    @stores_parameters
    def __init__(
        self,
        crosses,
        *,
        min_count=2,
        max_ids=2**20,
        n_bins=10,
        output="ids",
        scales=None,
        append=True,
        encoder=None,
    ):
        """Store the parameters."""

    @classmethod
    def from_estimator(cls, estimator: Any, **params: Any) -> Self:
        """A crosser of what a fitted search has found.

        Parameters
        ----------
        estimator : fitted estimator
            With ``interactions_`` (such as ``CTRClassifier(search=AutoFIS())``) or ``crosses_``
            (such as `AutoCross`, whose ``n_bins_`` and ``scales_`` are taken over too).
        **params
            Further parameters of `FieldCrosser`.

        Returns
        -------
        FieldCrosser
            Not fitted.

        Raises
        ------
        ValueError
            If it has neither, or is not fitted.
        """
        found = getattr(estimator, "crosses_", None)
        if found is None:
            found = getattr(estimator, "interactions_", None)
        if found is None:
            raise ValueError(
                f"estimator must be fitted and have interactions_ or crosses_, got "
                f"{estimator!r:.200}; search=AutoFIS() "
                "is a search that chooses interactions."
            )
        for name in ("n_bins", "scales"):
            if hasattr(estimator, f"{name}_"):
                params = {name: getattr(estimator, f"{name}_"), **params}
        return cls([tuple(cross) for cross in found], **params)

    # fit
    # ----------------------------------------------------------------------------------------------

    @all_or_nothing
    @takes_datasets
    def fit(self, X: Table, y: Column = None) -> Self:
        """Learn the values of the columns and their combinations.

        Parameters
        ----------
        X : DataFrame (pandas, polars), pyarrow Table, array or list of lists, (n_rows, n_columns),
            or any other that `FieldEncoder` reads. Of a data set (see `ParquetDataset`), values and
            combinations are counted block by block, with the same result.
        y : ignored; of a data set None or the name of a column that is left out.

        Returns
        -------
        self

        Raises
        ------
        OSError
            If a block of a data set cannot be read.
        ValueError
            For a cross with unknown, repeated or sequence columns, two crosses of the same columns,
            and a new name that the table already has.
        """
        if is_dataset(X):
            with opened_blocks(X, y, needs_target=False) as blocks:
                self._fit(blocks.sample()[0], blocks)
        else:
            self._fit(X)
        return self

    @all_or_nothing
    @takes_datasets
    def fit_transform(self, X: Table, y: Column = None) -> Any:
        """``fit(X).transform(X)``, encoding the table once; see ``transform``. The rows must be in
        memory.
        """
        refuse_dataset(X, "fit_transform")
        return self._output(X, *self._fit(X))

    def _fit(self, X, blocks=None):
        """Learn from a table, or from blocks of which it is a sample: the encoded table, ids."""
        validate_parameters(self)
        names, columns = read_columns(X, self)
        validate_data(self, X, reset=True, skip_check_array=True)
        labels = labels_of(names, len(columns))
        crosses = resolve_crosses(self.crosses, names, labels)
        n_bins = resolve_bins(self.n_bins, names, labels)
        encoder = checked_encoder(self.encoder)
        positions = list(range(len(columns)))
        if self.encoder is None and (self.output == "ids" or not self.append):
            # Only what the crosses need is read; with no crosses, one column, since an encoder
            # needs some.
            positions = sorted({i for cross in crosses for i in cross}) or [0]
        named = [tuple(labels[i] for i in cross) for cross in crosses]
        new = [SEPARATOR.join(cross) for cross in named]
        refuse_new_names(labels if self.append else [], new, "cross")
        if blocks is None:
            table = encoder.fit_encode(select(X, positions, names, len(columns)))
        else:
            blocks.count(encoder, positions)
            table = encoder.encode(select(X, positions, names, len(columns)))
        self._check_scales(labels, named)
        edges = column_edges(encoder, positions, n_bins)
        encoder.discard_counts()
        kinds = {positions[i]: "sequence" for i in encoder.sequence_}
        kinds |= {positions[i]: "vector" for i in encoder.vector_}
        for i in sorted({i for cross in crosses for i in cross} & set(kinds)):
            raise ValueError(
                f"crosses has {labels[i]!r}, a {kinds[i]} column, which cannot be crossed."
            )
        if self.output == "onehot" and self.append:
            warn_of_vectors(encoder, "The one-hot matrix")
        ids, sizes = (
            column_ids(table, encoder, positions, edges),
            column_sizes(encoder, positions, edges),
        )
        tables = [table]
        if blocks is not None:
            tables = (part for part, _, _ in blocks.encoded(encoder, positions))
        each = (column_ids(part, encoder, positions, edges) for part in tables)
        combinations = Combinations.of_blocks(
            ([[own[i] for i in cross] for cross in crosses] for own in each),
            [[sizes[i] for i in cross] for cross in crosses],
            self.min_count,
            self.max_ids,
        )
        self._publish(names, labels, positions, crosses, edges, encoder, combinations)
        return table, ids

    def _publish(self, names, labels, positions, crosses, edges, encoder, combinations):
        """Set what was fitted (here or when a model file is read)."""
        self._names, self._labels, self._positions = names, labels, positions
        self._crosses, self._edges, self._combinations = crosses, edges, combinations
        self.crosses_ = [tuple(labels[i] for i in cross) for cross in crosses]
        self.n_ids_ = [c.n_ids for c in combinations]
        self.encoder_ = encoder

    def _check_scales(self, labels, named):
        known = {*labels, *map(SEPARATOR.join, named)}
        for name, value in (self.scales or {}).items():
            if name not in known:
                raise ValueError(f"scales has {name!r}, which is neither a column nor a cross.")
            if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value < np.inf:
                raise ValueError(
                    f"scales must be finite numbers of at least 0, got {value!r} for {name!r}."
                )

    # transform
    # -----------------------------------------------------------------------------------------

    @reads_once
    @takes_rows
    def transform(self, X: Table) -> Any:
        """Rows to their crosses.

        Parameters
        ----------
        X : table with the columns of ``fit``

        Returns
        -------
        table or array of shape (n_rows, n_columns + n_crosses), or CSR matrix of shape (n_rows,
        n_ids)
            "ids": the columns of X (unless ``append=False``), then an integer column per cross.
            "onehot": an indicator for each id of each column and cross, float64, times its scale.
        """
        check_is_fitted(self, "_combinations")
        table = encode_as_fitted(self, X)
        return self._output(
            X, table, column_ids(table, self.encoder_, self._positions, self._edges)
        )

    def _output(self, X, table, ids):
        if self.output == "onehot":
            return self._one_hot(table, ids)
        crosses = np.empty((len(self._crosses), len(table)), np.int32)
        for row, cross, combinations in zip(
            crosses, self._crosses, self._combinations, strict=True
        ):
            row[:] = combinations.ids([ids[i] for i in cross])
        names = [SEPARATOR.join(cross) for cross in self.crosses_]
        return append_block(X, crosses.T, names, self.append)

    def _one_hot(self, table, ids):
        sizes = column_sizes(self.encoder_, self._positions, self._edges)
        parts = [(ids[i], sizes[i], self._labels[i]) for i in sorted(ids)] if self.append else []
        for cross, names, combinations in zip(
            self._crosses, self.crosses_, self._combinations, strict=True
        ):
            parts.append(
                (
                    combinations.ids([ids[i] for i in cross]),
                    combinations.n_ids,
                    SEPARATOR.join(names),
                )
            )
        sequences = []
        if self.append and len(self.encoder_.sequence_):
            blocks = np.hsplit(table.sequences, len(self.encoder_.sequence_))
            sequences = list(zip(blocks, self.encoder_.sequence_n_ids_, strict=True))
        widths = [size for _, size, _ in parts] + [size for _, size in sequences]
        starts = np.cumsum([0, *widths])
        n, n_places = len(table), len(parts) + table.sequences.shape[1] * bool(sequences)
        dtype = np.int32 if max(starts[-1], n * n_places) < 2**31 else np.int64
        indices, data = np.empty((n, n_places), dtype), np.ones((n, n_places))
        for j, (column, _, name) in enumerate(parts):
            np.add(column, starts[j], out=indices[:, j], casting="unsafe")
            data[:, j] = (self.scales or {}).get(name, 1.0)
        at = len(parts)
        for j, (block, _) in enumerate(sequences):
            indices[:, at : at + block.shape[1]] = block + starts[len(parts) + j]
            data[:, at : at + block.shape[1]] = block != MISSING
            at += block.shape[1]
        pointers = np.arange(n + 1, dtype=dtype) * n_places
        cells = data.ravel(), indices.ravel(), pointers
        matrix = sparse.csr_matrix(cells, shape=(n, int(starts[-1])))
        if sequences:
            matrix.sum_duplicates()
            matrix.eliminate_zeros()
        return matrix

    @reads_once
    def get_feature_names_out(self, input_features: Column = None) -> Array:
        """Names of the columns of ``transform``, all different: such as "user x day", and
        "user=ann" and "user x day=ann x mon" with "onehot"; see
        `FieldEncoder.get_feature_names_out`.
        """
        check_is_fitted(self, "_combinations")
        labels = output_labels(self, self._labels, input_features)
        crosses = [SEPARATOR.join(labels[i] for i in cross) for cross in self._crosses]
        if self.output == "ids":
            return np.array([*(labels if self.append else []), *crosses], dtype=object)
        values = self._value_names()
        names = (
            [f"{labels[i]}={v}" for i in sorted(values) for v in values[i]] if self.append else []
        )
        for name, cross, combinations in zip(
            crosses, self._crosses, self._combinations, strict=True
        ):
            names += [f"{name}={v}" for v in combinations.names([values[i] for i in cross])]
        if self.append:
            for i in self.encoder_.sequence_:
                names += [f"{labels[i]}={v}" for v in value_names(self.encoder_._fields[i])]
        return np.array(unused_names(names), dtype=object)

    def _value_names(self):
        """Names of all ids of each encoded column, object arrays by position."""
        out = {}
        schema = self.encoder_._schema
        for at, i in enumerate(self._positions):  # the first parts of the table are its columns
            field, kind = self.encoder_._fields[at], schema.kinds[at]
            if kind == NUMERIC:
                out[i] = bin_names(field, self._edges[i])
            elif kind == CATEGORICAL:
                out[i] = value_names(field)
        return out

    def __sklearn_tags__(self):
        return of_raw_tables(super().__sklearn_tags__())
