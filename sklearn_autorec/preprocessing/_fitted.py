"""What a fitted `FieldEncoder` says about itself: kinds, values, names."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..utils._sklearn import of_raw_tables
from ..utils._state import all_or_nothing, reads_once
from ._counting import derive
from ._encoding import decode
from ._names import output_labels, unused_names
from ._numeric import GRIDS
from ._schema import NAMES_OF_KINDS, Schema
from ._table import EncodedTable
from ._times import DURATION

N_BINS = 24  # of numbers, of encoders that do not say
UNBOUNDED_RANGE = (-3.0, 3.0)  # where most numbers of scales without bounds lie


class FittedFields:
    """Mixin of `FieldEncoder`. Reads ``_schema``, ``_counters``, what was ``_derived`` of them, and
    the positions of columns.
    """

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
        return [self._fields[i].categories for i in self.categorical_]

    @property
    def counts_(self):
        return [self._fields[i].counts for i in self.categorical_]

    @property
    def n_ids_(self):
        return [self._fields[i].n_ids for i in self.categorical_]

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
    def shared_with_(self):
        schema = self._schema
        owners = (schema.shared.get(i) for i in schema.sequence)
        return tuple(None if i is None else schema.categorical.index(i) for i in owners)

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
        dtype = np.float64 if len(self.numeric_) else np.int32
        return np.hstack([table.ids, table.numeric, table.sequences], dtype=dtype, casting="unsafe")

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
    def get_feature_names_out(self, input_features=None):
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
        labels = Schema(None, given, schema.column_kinds, schema.separators).labels
        kept = [labels[i] for i in (*schema.categorical, *schema.numeric)]
        new = [f"{labels[i]}_missing" for i in schema.numeric]
        new += [f"{labels[i]}_{k}" for i in schema.sequence for k in range(self.max_length)]
        return np.array([*kept, *unused_names(new, kept)], dtype=object)

    def __sklearn_tags__(self):
        return of_raw_tables(super().__sklearn_tags__())
