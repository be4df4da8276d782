"""Tables that many tests begin with."""

import numpy as np
import pandas as pd

from sklearn_autorec.datasets import make_ctr


def mixed_clicks(n, **options):
    """Columns of all kinds, four of ids, a number and a list, and clicks: X, y."""
    options = {"n_fields": 4, "n_numeric": 1, "n_sequences": 1, "random_state": 0} | options
    X, y, _ = make_ctr(n, **options)
    return X, y


def planted_fields(n, seed, cardinality):
    """Ten columns of ids of which five matter, 1, 4 and 8 alone, 2 and 6 together: X, y."""
    options = {"n_fields": 10, "cardinality": cardinality, "zipf": 0.5, "random_state": seed}
    X, y, _ = make_ctr(n, informative_fields=[1, 4, 8], pairs=[(2, 6)], **options)
    return X, y


def planted_crosses(n, seed, **options):
    """Eight columns of ids: the first matters alone, (1, 2) and (3, 4) together. X, y, truth."""
    options = {
        "n_fields": 8,
        "cardinality": 8,
        "zipf": 0.5,
        "informative_fields": [0],
        "pairs": [(1, 2), (3, 4)],
        "base_rate": 0.4,
    } | options
    return make_ctr(n, random_state=seed, **options)


def odd_rows(X):
    """The first five rows, of which one has values never seen in the first columns, and one
    nothing.
    """
    odd = X.iloc[:5].copy()
    odd.iloc[0, :3] = "never seen"
    odd.iloc[1] = np.nan
    return odd


def visits(rng, n, n_users, n_items, n_tags, lengths):
    """Columns of users, items, prices and lists of tags, of ``lengths`` (least, most)."""
    return pd.DataFrame(
        {
            "user": rng.integers(0, n_users, n).astype(str),
            "item": rng.integers(0, n_items, n),
            "price": rng.normal(size=n),
            "tags": [
                [f"t{k}" for k in rng.integers(0, n_tags, rng.integers(lengths[0], lengths[1] + 1))]
                for _ in range(n)
            ],
        }
    )


def planted_pairs(seed, n_rows=20_000):
    """Ten columns, three of which matter alone and five pairs together: X, y, truth."""
    return make_ctr(n_rows, cardinality=10, pairs=5, informative_fields=3, random_state=seed)


def planted_triple(seed):
    """Seven columns of which two act as a pair and three as a triple: X, y, truth."""
    effects = {"pairs": 1, "triples": 1, "triple_effect": 1.5, "rank": 1}
    return make_ctr(9000, n_fields=7, cardinality=5, zipf=0, random_state=seed, **effects)
