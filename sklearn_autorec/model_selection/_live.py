"""Whether a parameter that changes on a fitted model takes effect when the model goes on: tried out on a few rows."""

import copy
import warnings

import joblib
import numpy as np
from sklearn.base import clone

from ._evaluate import continue_fit
from ._mutation import draw

DRAWS = 20  # tries to find two values of a parameter that differ from the present one


def output(model, X):
    """What a model makes of rows, as fine as it says: probabilities, scores, numbers; else a hash of what was fitted."""
    for method in ("predict_proba", "decision_function"):
        if hasattr(model, method):
            return np.asarray(getattr(model, method)(X))
    predicted = np.asarray(model.predict(X)) if hasattr(model, "predict") else np.zeros(0, int)
    if predicted.dtype.kind == "f":
        return predicted
    own = model.get_params(deep=False)
    return np.array(joblib.hash({k: v for k, v in vars(model).items() if k not in own}))


def _equal(a, b):
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


class _Rehearsal:
    """A model of a few rows that goes on, with or without a change.

    Parameters
    ----------
    estimator : estimator
    X, y : rows
    resource : str
        Name of the parameter that counts.
    classes : ndarray or None
    """

    def __init__(self, estimator, X, y, resource, classes):
        self.X, self.y, self.resource, self.classes = X, y, resource, classes
        self.estimator = clone(estimator)
        if "random_state" in self.estimator.get_params(deep=False):
            self.estimator.set_params(random_state=0)
        self.model = self._go_on(clone(self.estimator), 1)
        self.before = output(self.model, X)
        self.after = self.continued({})
        # Without a seed of its own a model shows differences that are no effect of a parameter.
        self.repeatable = _equal(self.after, self.continued({}))
        # Of a model that has nothing left to learn from these rows, nothing can be told.
        self.idle = _equal(self.after, self.before)

    def _go_on(self, model, total):
        continue_fit(model, self.X, self.y, 1, total, self.resource, self.classes, {})
        return model

    def continued(self, change):
        model = copy.deepcopy(self.model).set_params(**clone(change, safe=False))
        return output(self._go_on(model, 2), self.X)

    def verdict(self, name, value):
        """ "live", "ignored" or "anew"."""
        change, back = {name: value}, {name: self.model.get_params()[name]}
        model = copy.deepcopy(self.model).set_params(**clone(change, safe=False))
        try:
            # A parameter of predictions (a threshold) changes them at once as well, but then they can be had back.
            kept = _equal(output(model, self.X), self.before) or _equal(
                output(model.set_params(**clone(back, safe=False)), self.X), self.before
            )
        except Exception:  # it forgot that it was fitted
            kept = False
        after = self.continued(change)
        fresh = output(self._go_on(clone(self.estimator).set_params(**clone(change, safe=False)), 1), self.X)
        if not kept or (self.repeatable and _equal(after, fresh) and not _equal(after, self.after)):
            return "anew"
        ignored = self.repeatable and not self.idle and _equal(after, self.after)
        return "ignored" if ignored else "live"


def dead_parameters(estimator, X, y, resource, classes, distributions, start, random_state):
    """Those of some parameters that a fitted model ignores, or for which it starts anew.

    Parameters
    ----------
    estimator : estimator
        That goes on. Never changed.
    X, y : a few rows
    resource : str
    classes : ndarray or None
    distributions : dict of str to list or distribution
        Of the parameters in question.
    start : dict
        Parameters of the model that is tried.
    random_state : numpy.random.RandomState

    Returns
    -------
    dict of str to str
        Name to "ignored" or "anew". Parameters for which the trial itself fails are not among them: the search will say
        what is wrong with them.
    """
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            trial = _Rehearsal(clone(estimator).set_params(**clone(start, safe=False)), X, y, resource, classes)
        except Exception:
            return {}
        for name, distribution in distributions.items():
            values = [draw(distribution, random_state) for _ in range(DRAWS)]
            present = joblib.hash(start[name])
            others = {h: v for v in values if (h := joblib.hash(v)) != present}
            try:
                verdicts = [trial.verdict(name, value) for value in list(others.values())[:2]]
            except Exception:
                continue
            if verdicts and all(v == verdicts[0] != "live" for v in verdicts):
                found[name] = verdicts[0]
    return found
