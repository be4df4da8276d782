"""Estimators that search and hardly train what they have found."""

from sklearn_autorec import CTRClassifier

# The network has all rows and nothing beside it.
ALONE = {"early_stopping": False, "wide": None, "target_statistics": False, "device": "cpu"}


def searching(search, seed, **options):
    """A classifier of clicks that trains one epoch after its search; the seed decides all."""
    options = {"embedding_dim": 8, "lr": 0.01, "batch_size": 256, "max_epochs": 1} | options
    return CTRClassifier(search=search, random_state=seed, **options)


def fit_fm(rows, search, seed, **options):
    """A factorization machine that is trained on all rows, (X, y); the seed decides all."""
    fixed = {"network": "fm", "embedding_dim": 8, "early_stopping": False, "device": "cpu"}
    return CTRClassifier(search=search, random_state=seed, **(fixed | options)).fit(*rows)
