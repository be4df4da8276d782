"""What the tests of estimators share."""

from sklearn_autorec import CTRClassifier
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
