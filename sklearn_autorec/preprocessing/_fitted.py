"""What a fitted `FieldEncoder` makes of rows, and says about itself: kinds, values, names."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..utils._frames import eager
from ..utils._sklearn import of_raw_tables
from ..utils._state import all_or_nothing, reads_once, snapshot
from ..utils._typing import Array, Column, Table
from ._columns import read_columns
from ._counting import derive, each_column
from ._describe import as_html, description
from ._dicts import cells_of_dicts, eager_as_fitted, is_dicts, objects
from ._encoding import assemble, decode, encode_column, encode_few, report_unknown
from ._names import check_columns, output_labels, unused_names
from ._numeric import GRIDS
from ._schema import NAMES_OF_KINDS
from ._table import EncodedTable
from ._times import DURATION

N_BINS = 24  # of numbers, of encoders that do not say
UNBOUNDED_RANGE = (-3.0, 3.0)  # where most numbers of scales without bounds lie


class FittedFields:
    """Mixin of `FieldEncoder`. Reads ``_schema``, ``_counters``, what was ``_derived`` of them, and
    the positions of columns.
    """

    _schema: Any
    max_length: Any
    n_features_in_: int
    _text_numbers: Any
    unknown_warning: Any

    def _set_positions(self):
        """Set what is public of the schema."""
        schema = self._schema
        self.categorical_, self.numeric_, self.sequence_, self.vector_ = (
            np.array(positions, dtype=np.int64)
            for positions in (
                schema.categorical_sources,
                schema.numeric_sources,
                schema.sequence,
                schema.vector,
            )
        )
        parts = (*schema.categorical, *schema.numeric, *schema.sequence, *schema.vector)
        self.field_names_ = [schema.labels[i] for i in parts]

    @reads_once
    def describe(self):
        """What each column is taken for, and why.

        Returns
        -------
        DataFrame
            A row for each field, in the order of the columns:

            - "column" and "field": names of the column and of what is read of it;
            - "kind": of the column, as in ``kinds_``;
            - "read_as": "id", "number", "sequence of ids", "vector of 8", "seconds" ...;
            - "n_ids": ids of the field, the missing and the unknown one included; NA of others;
            - "missing": share of the training rows in which it is missing (of lists: without an
              item), by weight;
            - "coverage": share of the training cells (of lists: of their items) whose value is
              kept: neither missing nor too rare to have an id of its own;
            - "reason": why the column is of this kind.
        """
        check_is_fitted(self, "_derived")
        return description(self)

    def _html_repr(self):
        """HTML of scikit-learn, and once fitted the table of ``describe`` below it."""
        drawn = super()._html_repr()
        return f"{drawn}{as_html(snapshot(self))}" if hasattr(self, "_derived") else drawn

    @property
    def kinds_(self):
        told = {kind: name for name, kind in NAMES_OF_KINDS.items()}
        return {
            label: told.get(kind, kind)
            for label, kind in zip(
                self._schema.column_labels, self._schema.column_kinds, strict=True
            )
        }

    @property
    def times_(self):
        held = {}
        for i, time in (self._schema.times or {}).items():
            point = "time" if time.zone is None else "zoned time"
            held[self._schema.column_labels[i]] = "duration" if time.kind == DURATION else point
        return held

    @property
    def numeric_range_(self):
        methods = {self._fields[i].method for i in self._schema.numeric} or {self.numeric}
        if methods <= {*GRIDS}:
            return (0.0, 1.0) if methods == {"rank"} else (-(3**0.5), 3**0.5)
        return UNBOUNDED_RANGE

    @property
    def categories_(self):
        return [self._fields[i].categories for i in self._schema.categorical]

    @property
    def counts_(self):
        return [self._fields[i].counts for i in self._schema.categorical]

    @property
    def n_ids_(self):
        return [self._fields[i].n_ids for i in self._schema.categorical]

    @property
    def sequence_categories_(self):
        return [self._fields[i].categories for i in self.sequence_]

    @property
    def sequence_counts_(self):
        return [self._fields[i].counts for i in self.sequence_]

    @property
    def sequence_n_ids_(self):
        return [self._fields[i].n_ids for i in self.sequence_]

    @property
    def vector_lengths_(self):
        return [self._schema.vectors[i] for i in self._schema.vector]

    @property
    def shared_with_(self):
        schema = self._schema
        owners = (schema.shared.get(i) for i in schema.sequence)
        return tuple(
            schema.categorical.index(i) if i in schema.categorical else None for i in owners
        )

    @property
    def shared_fields_(self):
        schema = self._schema
        if not schema.shared:
            return {}
        parts = [*schema.categorical, *schema.numeric, *schema.sequence]
        pairs = ((parts.index(i), parts.index(owner)) for i, owner in schema.shared.items())
        return dict(sorted(pairs))

    @all_or_nothing
    def discard_counts(self):
        """Forget what only ``partial_fit`` needs: the values that were too rare, the distribution
        of numbers.

        Returns
        -------
        self
        """
        check_is_fitted(self, "_derived")
        self._derived = self._fields
        self.__dict__.pop("_counters", None)
        return self

    @property
    def _fields(self):
        """Vocabulary or scaler of each part (see `Schema`); after ``partial_fit`` derived when
        first asked for.
        """
        if self._derived is None:
            self._derived = derive(self._counters, self)
        return self._derived

    def __getstate__(self):
        if hasattr(self, "_derived"):
            # Derived before saving, so that a loaded encoder serves at once.
            self._fields  # noqa: B018
        return super().__getstate__()

    def _as_matrix(self, table):
        dtype = np.float64 if len(self.numeric_) or self._schema.vector else np.int32
        parts = [table.ids, table.numeric, table.sequences, table.vectors]
        return np.hstack(parts, dtype=dtype, casting="unsafe")

    def encode(self, X: Table, validate: bool = True) -> EncodedTable:
        """Raw rows to an `EncodedTable`.

        Parameters
        ----------
        X : table with the columns of ``fit``, or rows as dicts
            A dict is a row, by name of the column. A key that is not there is a missing value; one
            that is no column is refused.
        validate : bool, default=True
            Whether names and number of the columns are compared with those of ``fit``; without it
            columns are taken as they come.

        Returns
        -------
        EncodedTable

        Raises
        ------
        ValueError
            If columns are missing, extra, renamed, reordered or twice there, a numeric column holds
            infinity, text or times, or a column of times something of which it is not certain which
            time it is.

        Warns
        -----
        DataTypeDriftWarning
            If a column holds another kind of values than in ``fit``, which are converted, or floats
            that have lost digits.
        UnknownCategoryWarning
            If most of a column was never seen in ``fit``.
        """
        self = snapshot(self)  # another thread may fit
        if not hasattr(self, "_derived"):  # the full check takes longer than a row
            check_is_fitted(self, "_derived")
        schema, fields, max_length = self._schema, self._fields, self.max_length
        cells = cells_of_dicts(X, schema.names, self) if is_dicts(X) else None
        table = encode_few(X, cells, schema, max_length, fields)
        if table is not None:
            return table
        if cells is None:
            X = eager_as_fitted(X, self, schema.names) if validate else eager(X)
            _, columns = read_columns(X, self)
        else:
            columns, validate = [objects(column) for column in cells], False
        if validate:
            check_columns(self, X, schema.names)
        elif len(columns) != self.n_features_in_:
            raise ValueError(
                f"X has {len(columns)} features, but FieldEncoder expects {self.n_features_in_} "
                f"features."
            )
        parts = schema.parts(columns)
        parsed = each_column(
            parts, lambda i, column: encode_column(i, column, schema, max_length, fields[i])
        )
        table = assemble(len(columns[0]), parsed, schema, max_length, fields, self._text_numbers)
        report_unknown(table, schema, fields, self.unknown_warning)
        return table

    @reads_once
    def inverse_transform(self, ids):
        """Ids of the categorical columns back to values.

        Parameters
        ----------
        ids : int array of shape (n_rows, n_categorical), matrix of ``transform``, or EncodedTable

        Returns
        -------
        object ndarray of shape (n_rows, n_categorical)
            None where missing, "<rare>" where unknown or rare, "<hash k>" for hashed columns.
        """
        check_is_fitted(self, "_derived")
        ids = np.asarray(ids.ids if isinstance(ids, EncodedTable) else ids)
        if ids.ndim == 2 and ids.shape[1] == len(self.get_feature_names_out()):
            ids = ids[:, : len(self.categorical_)]
        if ids.ndim != 2 or ids.shape[1] != len(self.categorical_):
            raise ValueError(
                f"ids must have shape (n_rows, {len(self.categorical_)}), got {ids.shape}."
            )
        return decode(ids, self._schema, self._fields)

    @reads_once
    def get_feature_names_out(self, input_features: Column = None) -> Array:
        """Names of the columns of ``transform``, object ndarray (n_features_out,).

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns of ``fit``, if these had none; else the same names again.

        Returns
        -------
        ndarray
            All different: of a column "price_missing" beside "price", the indicator is called
            "price_missing_2".
        """
        check_is_fitted(self, "_derived")
        schema = self._schema
        given = output_labels(self, schema.column_labels, input_features)
        labels = schema.relabelled(given)
        kept = [labels[i] for i in (*schema.categorical, *schema.numeric)]
        new = [f"{labels[i]}_missing" for i in schema.numeric]
        new += [f"{labels[i]}_{k}" for i in schema.sequence for k in range(self.max_length)]
        for i in schema.vector:
            new += [f"{labels[i]}_{k}" for k in range(schema.vectors[i])]
            new.append(f"{labels[i]}_missing")
        return np.array([*kept, *unused_names(new, kept)], dtype=object)

    def __sklearn_tags__(self):
        return of_raw_tables(super().__sklearn_tags__())
