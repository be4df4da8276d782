"""Tables that many tests begin with."""

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
