"""Estimators that search and hardly train what they have found."""

from sklearn_autorec import CTRClassifier


def searching(search, seed, **options):
    """A classifier of clicks that trains one epoch after its search; the seed decides all."""
    options = {"embedding_dim": 8, "lr": 0.01, "batch_size": 256, "max_epochs": 1} | options
    return CTRClassifier(search=search, random_state=seed, **options)
