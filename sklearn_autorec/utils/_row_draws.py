"""Random numbers of rows that depend on nothing but the number (or the label) of the row and a
seed: the same in every pass over a data set, however it is cut into blocks.
"""

import numpy as np

__all__ = ["uniform_by_label", "uniform_by_row"]

_GAMMA = 0x9E3779B97F4A7C15


def uniform_by_row(first, n_rows, seed):
    """A number of [0, 1) for each of the rows ``first`` to ``first + n_rows - 1``.

    The finaliser of SplitMix64 (Steele, Lea and Flood, 2014) of seed and number.

    Parameters
    ----------
    first, n_rows, seed : int

    Returns
    -------
    float64 ndarray of shape (n_rows,)
    """
    x = np.uint64(_GAMMA) * np.arange(first + 1, first + n_rows + 1, dtype=np.uint64)
    return (_mixed(_start(seed) + x) >> np.uint64(11)) * 2.0**-53


def uniform_by_label(labels, seed):
    """A number of [0, 1) for each label, int64 ndarray of any shape; equal ones have equal
    numbers.
    """
    x = np.uint64(_GAMMA) * labels.astype(np.uint64)
    return (_mixed(_start(seed) + x) >> np.uint64(11)) * 2.0**-53


def _start(seed):
    return _mixed(np.array([(seed + 1) * _GAMMA % 2**64], np.uint64))


def _mixed(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
