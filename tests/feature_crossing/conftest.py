import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "user": rng.choice(["ann", "bob", "cid", None], 300),
            "day": rng.choice(["mon", "tue"], 300),
            "price": np.where(rng.random(300) < 0.1, np.nan, rng.normal(size=300)),
            "time": pd.Timestamp("2020-01-01")
            + pd.to_timedelta(rng.integers(0, 60, 300), unit="h"),
        }
    )
    return X, (rng.random(300) < 0.2 + 0.5 * (X["user"] == "ann")).to_numpy().astype(int)


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    n = 400
    table = pd.DataFrame(
        {
            "user": rng.choice(["ann", "bob", "cat"], n),
            "day": pd.Series(rng.choice(["mon", "tue", None], n), dtype=object),
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n)),
            "shop": rng.integers(4, size=n),
        },
        index=np.arange(n) * 3,
    )
    table.loc[0, ["user", "day"]] = None
    return table
