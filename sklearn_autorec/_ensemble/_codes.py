"""All fields of an encoded table as codes: ids as they are, numbers by bins."""

import numpy as np

from ..feature_crossing._reading import bin_edges

N_BINS = 16  # of a number in a cross


class _SameScale:
    """Edges are wanted on the scale of the encoded values themselves."""

    @staticmethod
    def scale_values(values):
        return values


class FieldCodes:
    """Codes of the categorical, then the numeric fields; sequence fields have none.

    Parameters
    ----------
    edges : list of float32 ndarray
        Inner edges of the bins of each number.
    sizes : list of int
        Codes of each field are below these.
    """

    def __init__(self, edges, sizes):
        self.edges, self.sizes = edges, sizes

    @classmethod
    def of_edges(cls, edges, n_ids):
        return cls(edges, [*(int(n) for n in n_ids), *(len(e) + 3 for e in edges)])

    @classmethod
    def learned(cls, table, n_ids, n_bins=N_BINS):
        """Bins of about equally many rows; a value with more rows than that has one of its own."""
        m, edges = table.numeric.shape[1] // 2, []
        for j in range(m):
            present = table.numeric[table.numeric[:, m + j] == 0, j].astype(np.float64)
            values, counts = np.unique(present, return_counts=True)
            found = bin_edges(values, counts, _SameScale, n_bins) if len(values) else values
            edges.append(found.astype(np.float32))
        return cls.of_edges(edges, n_ids)

    def columns(self, table):
        """Codes of each field, int ndarrays (n_rows,): 0 missing, 1 unknown, 2.. values or bins."""
        m, out = len(self.edges), list(table.ids.T)
        for j, edges in enumerate(self.edges):
            bins = np.searchsorted(edges, table.numeric[:, j], side="right") + 2
            out.append(np.where(table.numeric[:, m + j] > 0, 0, bins))
        return out
