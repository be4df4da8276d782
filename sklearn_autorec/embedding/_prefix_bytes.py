"""Bytes of tables of which some rows are kept, each field in its first columns."""

import numpy as np

from ..nn import FORMS
from ..nn._budget import kinds_of_tables, stored_bytes
from ..nn._packed_rows import PackedBits, PackedSparse

NAMES = ("dense", "columns", "prefixes", "sparse", "bits")  # of the forms that are reckoned with


class PrefixBytes:
    """As `packed_bytes` of the mask of some rows and widths, without the mask: a call takes time by
    the number of tables, not of values.

    Parameters
    ----------
    kept : list of bool ndarray
        Which rows of each table are kept.
    context : BuildContext
    """

    def __init__(self, kept, context):
        self.dim, self.kinds = context.embedding_dim, kinds_of_tables(context)
        self.sizes = np.array([len(own) for own in kept], np.int64)
        self.n_kept = np.array([int(own.sum()) for own in kept], np.int64)
        # Up to the last row that is kept; a prefix holds those before it, too.
        self.n_first = np.array([int(np.flatnonzero(own).max(initial=-1)) + 1 for own in kept])
        self.forms = [name for name in NAMES if self.dim <= FORMS[name].max_width]

    def __call__(self, widths):
        """Bytes of widths, int ndarray (T,), in the form that takes fewest."""
        widths = np.where(self.n_kept > 0, widths, 0)
        counts = self._counts(widths)
        return min(self._bytes_of(*counts[name]) for name in self.forms)

    def _bytes_of(self, numbers, vectors, index):
        return int(stored_bytes(numbers, vectors, self.kinds).sum()) + int(index)

    def _counts(self, widths):
        """Numbers, vectors and bytes of the index of each form, see
        `PackedEmbedding.counts_of`.
        """
        per_column = len(self.sizes) * self.dim
        living = np.where(widths > 0, self.n_kept, 0)
        elements, n_living = self.n_kept * widths, int(living.sum())
        of_rows = PackedSparse.row_bytes(int(self.sizes.sum()), n_living)
        of_bits = PackedBits.row_bytes(int(self.sizes.sum()), n_living)
        return {
            "dense": (self.sizes * self.dim, self.sizes, 0),
            "columns": (self.sizes * widths, self.sizes, 2 * per_column),
            "prefixes": (self.n_first * widths, self.sizes, 4 * per_column),
            "sparse": (elements, living, elements.sum() + of_rows),
            "bits": (elements, living, -(-self.dim // 8) * n_living + of_bits),
        }
