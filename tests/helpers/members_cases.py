"""What the tests of members share."""

from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier
from sklearn_autorec.networks import DeepFM

SMALL = DeepFM(hidden_units=(8,))

OPTIONS = {
    "network": SMALL,
    "embedding_dim": 4,
    "max_epochs": 2,
    "lr": 0.01,
    "device": "cpu",
    "random_state": 0,
}


def few(**options):
    return CTRClassifier(**{**OPTIONS, "members": 3, **options})


def small_clicks():
    return mixed_clicks(600, cardinality=8, pairs=2)


def fitted_members(clicks):
    return few().fit(*clicks)
