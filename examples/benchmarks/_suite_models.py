"""The models of the suite. A new method of the package is one line in OURS or OUR_RATINGS.

A value is a function of the seed that gives an unfitted estimator. Estimators whose ``fit`` takes
``X_val`` are given the validation rows for early stopping; others never see them. `Alone` hides
them."""

import inspect

from _rivals import (
    CatBoostClassifier,
    CatBoostRegressor,
    HGBClassifier,
    HGBRegressor,
    LightGBMClassifier,
    LightGBMRegressor,
    crossed_logistic,
    crossed_ridge,
    one_hot_logistic,
    one_hot_ridge,
)
from _tabm import TabMClassifier, TabMRegressor
from sklearn.dummy import DummyRegressor

from sklearn_autorec import CTRClassifier, RatingRegressor


class Alone:
    """An estimator without the validation rows: it holds out rows of its own, as a user's plain
    ``fit`` does.
    """

    def __init__(self, estimator):
        self.estimator = estimator

    def get_params(self, deep=True):
        """Parameters of the estimator, and itself."""
        return {**self.estimator.get_params(deep), "estimator": self.estimator}

    def fit(self, X, y):
        """The estimator, fitted without validation rows."""
        return self.estimator.fit(X, y)


OURS = {
    "CTRClassifier()": lambda seed: CTRClassifier(random_state=seed),
    "CTRClassifier() alone": lambda seed: Alone(CTRClassifier(random_state=seed)),
    "CTRClassifier(network='fm')": lambda seed: CTRClassifier(network="fm", random_state=seed),
    "CTRClassifier(network='dcnv2')": lambda seed: CTRClassifier(
        network="dcnv2", random_state=seed
    ),
    "CTRClassifier(network='autoint')": lambda seed: CTRClassifier(
        network="autoint", random_state=seed
    ),
}

OUR_RATINGS = {
    "RatingRegressor()": lambda seed: RatingRegressor(random_state=seed),
}

# Cheap ones first: this is the order in which they run.
RIVALS = {
    "LightGBM default": lambda seed: LightGBMClassifier("default", random_state=seed),
    "LightGBM stopped": lambda seed: LightGBMClassifier("stopped", random_state=seed),
    "HGB": lambda seed: HGBClassifier(random_state=seed),
    "one-hot LR": lambda seed: one_hot_logistic(),
    "CatBoost": lambda seed: CatBoostClassifier(random_state=seed),
    "crossed LR": crossed_logistic,
    "LightGBM tuned": lambda seed: LightGBMClassifier("tuned", random_state=seed),
    "TabM": lambda seed: TabMClassifier(random_state=seed),
}

RATING_RIVALS = {
    "mean": lambda seed: DummyRegressor(),
    "one-hot Ridge": lambda seed: one_hot_ridge(),
    "LightGBM default": lambda seed: LightGBMRegressor("default", random_state=seed),
    "LightGBM stopped": lambda seed: LightGBMRegressor("stopped", random_state=seed),
    "HGB": lambda seed: HGBRegressor(random_state=seed),
    "CatBoost": lambda seed: CatBoostRegressor(random_state=seed),
    "crossed Ridge": crossed_ridge,
    "LightGBM tuned": lambda seed: LightGBMRegressor("tuned", random_state=seed),
    "TabM": lambda seed: TabMRegressor(random_state=seed),
}

TASKS = {"clicks": {**RIVALS, **OURS}, "ratings": {**RATING_RIVALS, **OUR_RATINGS}}
GROUPS = {"rivals": {*RIVALS, *RATING_RIVALS}, "ours": {*OURS, *OUR_RATINGS}}


def takes_validation_rows(estimator):
    """Whether ``fit`` has a parameter X_val."""
    return "X_val" in inspect.signature(estimator.fit).parameters


def chosen(task, names):
    """The models of a task that were asked for by name or as a group ("rivals", "ours"), in their
    order.
    """
    wanted = set()
    for name in names or GROUPS:
        wanted |= GROUPS.get(name, {name})
    known = {name for models in TASKS.values() for name in models}
    if unknown := wanted - known:
        raise ValueError(
            f"There is no model {sorted(unknown)}; there are {sorted(known)} and the groups "
            f"{sorted(GROUPS)}."
        )
    return {name: make for name, make in TASKS[task].items() if name in wanted}
