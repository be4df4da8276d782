"""What a population search keeps besides scores: the newest model of each member, and its hypergradient."""

from numbers import Real

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from ..utils._sklearn import safe_split


def split_parameters(estimator, parameters):
    """Parameters of the steps before the last of a Pipeline, and those of its last step without the step's name.

    Returns
    -------
    tuple (outer dict, inner dict)
        Of an estimator that is no Pipeline all are inner.
    """
    if not isinstance(estimator, Pipeline):
        return {}, dict(parameters)
    prefix = estimator.steps[-1][0] + "__"
    inner = {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}
    return {k: v for k, v in parameters.items() if not k.startswith(prefix)}, inner


def last_step(estimator):
    """The part of an estimator that goes on."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


class Survivors:
    """A checkpoint that also remembers models; stands between the engine and the real checkpoint.

    Parameters
    ----------
    keep : Checkpoint or NoCheckpoint
    estimator : estimator
        Of the search.
    X, y : all rows
    population : int
        Rows of ``cv_results_`` in a step: row // population is the step, row % population the member.
    names : list of str
        Parameters whose hypergradient is asked for, by their names in the last step; empty for none.
    """

    def __init__(self, keep, estimator, X, y, population, names):
        self.keep, self.estimator, self.X, self.y = keep, estimator, X, y
        self.population, self.names = population, names
        self.parameters: dict[int, dict] = {}  # of the rows that are evaluated
        self.models: dict[tuple[int, int], object] = {}
        self.gradients: dict[tuple[int, int], dict] = {}
        self._heads: dict[tuple[str, int], Pipeline] = {}

    def _row(self, columns):
        # Not the number of the row in ``cv_results_`` once a search has been stopped within a step.
        return (columns["step"] - 1) * self.population + columns["member"]

    def expect(self, batch):
        """To be told by the policy: the trials that are evaluated next."""
        self.parameters = {self._row(trial.columns): trial.params for trial in batch}

    def settings(self, fresh):
        found = self.keep.settings(fresh)
        self.splits = found["splits"]
        return found

    def load(self, row, split):
        stored = self.keep.load(row, split)
        if stored is None:
            return None
        result = {k: v for k, v in stored.items() if k != "hypergradient"}
        self._remember(row, split, result, stored.get("hypergradient", {}))
        return result

    def save(self, row, split, result):
        gradient = self._hypergradient(row, split, result["state"]) if self.names else {}
        self.keep.save(row, split, {**result, "hypergradient": gradient})
        self._remember(row, split, result, gradient)

    def _remember(self, row, split, result, gradient):
        self.models.pop((row - self.population, split), None)  # the member's last
        self.models[row, split] = result["state"]
        self.gradients[row, split] = gradient

    def model(self, columns):
        """The model of the first split of a row with such columns, if its member has no newer one; None if it failed."""
        return self.models[self._row(columns), 0]

    def gradient(self, row):
        """Mean hypergradient of a row over the splits: dict of name to float, without names that are not finite."""
        found = [self.gradients[row, s] for s in range(len(self.splits))]
        names = [n for n in self.names if all(n in g for g in found)]
        means = {n: float(np.mean([g[n] for g in found])) for n in names}
        return {n: g for n, g in means.items() if np.isfinite(g)}

    def head(self, parameters, split):
        """The steps before the last of a Pipeline, fitted on the training rows of a split."""
        outer, _ = split_parameters(self.estimator, parameters)
        key = joblib.hash(outer), split
        if key not in self._heads:
            pipeline = clone(self.estimator).set_params(**clone(outer, safe=False))
            X_train, y_train = safe_split(pipeline, self.X, self.y, self.splits[split][0])
            self._heads[key] = pipeline[:-1].fit(X_train, y_train)
        return self._heads[key]

    def _hypergradient(self, row, split, model):
        if model is None:
            return {}
        train, test = self.splits[split]
        X_test, y_test = safe_split(self.estimator, self.X, self.y, test, train)
        if isinstance(self.estimator, Pipeline) and len(self.estimator) > 1:
            X_test = self.head(self.parameters[row], split).transform(X_test)
        found = model.hypergradient(X_test, y_test, list(self.names))
        wrong = not isinstance(found, dict) or not all(
            name in self.names and isinstance(g, Real) for name, g in found.items()
        )
        if wrong:
            raise TypeError(
                f"{type(model).__name__}.hypergradient must return a dict of some of the names {self.names} to numbers, "
                f"got {found!r}."
            )
        return {name: float(g) for name, g in found.items()}
