"""What the tests of the estimators share."""

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.networks import DeepFM

SMALL = DeepFM(hidden_units=(16,))


def quick(**options):
    return CTRClassifier(
        **{
            "network": SMALL,
            "embedding_dim": 4,
            "lr": 0.01,
            "max_epochs": 2,
            "random_state": 0,
            "device": "cpu",
            **options,
        }
    )


def clicks_of_five():
    """Five columns of ids, a number and a list: X, y and the truth."""
    options = {"cardinality": 8, "pairs": 2, "informative_fields": 2, "random_state": 0}
    return make_ctr(3000, n_fields=5, n_numeric=1, n_sequences=1, **options)
