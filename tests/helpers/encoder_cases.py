"""What the tests of FieldEncoder share."""

import numpy as np
import pandas as pd

from sklearn_autorec.preprocessing import EncodedTable


def table(n=500, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user": pd.Series(
                rng.choice(["ann", "bob", "cyd", "", None], n, p=[0.4, 0.25, 0.2, 0.05, 0.1]),
                dtype="str",
            ),
            "item": rng.integers(0, 40, n),
            "price": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "history": [
                None if k == 0 else [f"i{v}" for v in rng.integers(0, 9, k - 1)]
                for k in rng.integers(0, 6, n)
            ],
        }
    )


ITEM = {"categorical_features": {"item": "id"}}  # else it is what its first rows look like


def same(a: EncodedTable, b: EncodedTable):
    for name in ("ids", "numeric", "sequences"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
