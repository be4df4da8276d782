"""The encoded table."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class EncodedTable:
    """Rows of a raw table as C-contiguous arrays.

    Parameters
    ----------
    ids : int32 ndarray of shape (n_rows, n_categorical)
        Per field: 0 missing, 1 unknown or rare, 2.. the vocabulary, most frequent first.
    numeric : float32 ndarray of shape (n_rows, 2 * n_numeric)
        Scaled values, 0 where missing; then 0/1 indicators of missing values.
    sequences : int32 ndarray of shape (n_rows, sum of lengths)
        Items of all sequence fields side by side: 0 padding (on the right), 1 unknown, 2.. the
        vocabulary.
    vectors : float32 ndarray of shape (n_rows, sum of (length + 1)), or None
        Of each vector field its standardised numbers, 0 where missing, then 1 where the whole
        vector is missing, else 0. None stands for no such fields.
    """

    ids: np.ndarray
    numeric: np.ndarray
    sequences: np.ndarray
    vectors: np.ndarray | None = None

    def __post_init__(self):
        if self.vectors is None:
            object.__setattr__(self, "vectors", np.empty((len(self.ids), 0), np.float32))

    def __len__(self):
        return len(self.ids)

    def take(self, rows):
        """The rows at the given positions (or of a mask or slice), as a new table."""
        return EncodedTable(
            *(
                np.ascontiguousarray(part[rows])
                for part in (self.ids, self.numeric, self.sequences, self.vectors)
            )
        )

    @property
    def n_unknown(self):
        """Unknown or rare cells per categorical field, int64 (n_categorical,)."""
        return (self.ids == 1).sum(0)
