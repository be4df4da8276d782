"""What the tests of searches for embedding sizes share."""

import itertools

import numpy as np
import pandas as pd
import torch

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.nn import BuildContext, Inputs


def context(embedding_init=1.0, d=5, sizes=(12, 5, 7), **changes):
    """Two fields, a number, and two lists of three and of two items, of which the second reads the
    first field's table: tables of so many ids.
    """
    a, b, items = sizes
    return BuildContext(
        ("a", "b", "number", "items", "others"),
        (a, b),
        1,
        ((items, 3), (a, 2)),
        shared=(None, 0),
        embedding_dim=d,
        embedding_init=embedding_init,
        generator=torch.Generator().manual_seed(0),
        **changes,
    )


def batch(context, n=40):
    """Rows of such a context at random."""
    generator = torch.Generator().manual_seed(1)

    def ids(size, length):
        return torch.randint(0, size, (n, length), generator=generator).int()

    return Inputs(
        torch.cat([ids(size, 1) for size in context.n_ids], 1),
        torch.randn(n, 2, generator=generator),
        torch.cat([ids(*own) for own in context.sequences], 1),
    )


def expected_vectors(x, tables):
    """Vectors of the fields but the number, of whole tables in numpy."""
    (a, b, own), ids, items = tables, x.ids.numpy(), x.sequences.numpy()

    def mean(table, rows):
        present = (rows > 0)[..., None]
        return (table[rows] * present).sum(1) / np.maximum(present.sum(1), 1)

    return np.stack([a[ids[:, 0]], b[ids[:, 1]], mean(own, items[:, :3]), mean(a, items[:, 3:])], 1)


def planted(seed, n=6000, task="clicks"):
    """Of the values of "rich" the most frequent fifth acts with "partner", by rank 4; the others,
    and "noise", say nothing.
    """
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, 101) ** 1.1
    rich, partner = rng.choice(100, 2 * n, p=chance / chance.sum()), rng.integers(0, 8, 2 * n)
    noise = rng.integers(0, 100, 2 * n)
    U = rng.normal(size=(100, 4))
    V = np.array(list(itertools.product((-1, 1), repeat=4)))[rng.choice(16, 8, replace=False)]
    U[20:] = 0
    effect = (U[rich] * V[partner]).sum(1)
    X = pd.DataFrame({"rich": rich, "partner": partner, "noise": noise}).astype(str)
    if task == "clicks":
        y = (rng.random(2 * n) < 1 / (1 + np.exp(-effect))).astype(int)
    else:
        y = 3 + effect / 2 + rng.normal(size=2 * n) * 0.5
    return X[:n], y[:n], X[n:], y[n:]


def odd_table(n=200, n_values=9):
    """Values with gaps, a constant, a number and a list, without effect."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "a": rng.integers(0, n_values, n).astype(str),
            "constant": ["x"] * n,
            "number": rng.normal(size=n),
            "list": [[str(i) for i in rng.integers(0, 5, rng.integers(0, 4))] for _ in range(n)],
        }
    )
    X.loc[rng.random(n) < 0.2, "a"] = None
    return X, rng.integers(0, 2, n)


def checked_on_other_columns(X, y, search, options):
    """A classifier and a regressor of 400 rows with gaps, a number, a constant and a list beside
    what is there; they predict single rows as among others, and go on.
    """
    X = X.assign(price=np.random.default_rng(0).normal(size=len(X)), same="a")
    X["tags"] = [["a", "b"], ["b"]] * 200
    X.loc[::5, ["many", "price"]] = None
    options = {**options, "search_epochs": 2, "max_epochs": 2, "random_state": 0}
    models = [kind(search=search, **options).fit(X, y) for kind in (CTRClassifier, RatingRegressor)]
    for model in models:
        predict = getattr(model, "predict_proba", model.predict)
        p = predict(X)
        assert np.isfinite(p).all() and model.n_iter_ == (0 if search.retrain == "none" else 2)
        np.testing.assert_array_equal(predict(X[:1]), p[:1])
        model.partial_fit(X[:1], y[:1])
        assert np.isfinite(predict(X)).all()
    return models
