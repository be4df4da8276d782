"""What the tests of an encoder's state share."""

import numpy as np
import pandas as pd


def assert_same(a, b):
    for name in ("ids", "numeric", "sequences"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def assert_same_fit(a, b):
    for name in ("categories_", "counts_", "sequence_categories_", "sequence_counts_"):
        for x, y in zip(getattr(a, name), getattr(b, name), strict=True):
            assert x.dtype == y.dtype and x.tolist() == y.tolist()
    assert a.n_ids_ == b.n_ids_ and a.sequence_n_ids_ == b.sequence_n_ids_


def mixed_table(n=400, seed=0):
    """Strings, integers that turn into text halfway, floats that are whole at first, lists and
    numbers.
    """
    rng = np.random.default_rng(seed)
    late = np.arange(n) >= n // 2
    numbers = rng.integers(0, 30, n)
    return pd.DataFrame(
        {
            "word": pd.Series(
                [f"w{k}" if k else None for k in rng.integers(0, 30, n)], dtype="str"
            ),
            "number": rng.integers(0, 30, n),
            "mixed": pd.Series(
                [str(k) if flag else int(k) for k, flag in zip(numbers, late, strict=True)],
                dtype=object,
            ),
            "halves": np.where(late, 0.5, 1.0) * rng.integers(0, 20, n),
            "items": [
                [int(v) for v in rng.integers(0, 9, k)] if k else None
                for k in rng.integers(0, 6, n)
            ],
            "price": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n) * 1e3),
        }
    )


CHOSEN = ["word", "number", "mixed", "halves"]
