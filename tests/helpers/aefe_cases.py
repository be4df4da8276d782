"""What the tests of AEFE share."""

from small_tables import planted_crosses

CHEAP = {"n_pairs": 4, "cv": 2, "max_epochs": 12, "random_state": 0}

PLANTED = {("f1", "f2"), ("f3", "f4")}


def clicks(seed, n=4000, **options):
    X, y, _ = planted_crosses(n, seed, **{"pair_effect": 2.0, **options})
    return X, y
