"""Whether a parameter that changes on a fitted model takes effect when the model goes on: tried out
on a few rows.
"""

import copy
import warnings

import joblib
import numpy as np
from sklearn.base import clone

from .._mutation import draw
from .._running._evaluate import continue_fit

DRAWS = 20  # tries to find two values of a parameter that differ from the present one
UNITS = 3  # that a model goes on for: in one unit a tree may come out the same by chance


def output(model, X):
    """What a model makes of rows, as fine as it says: probabilities, scores, numbers; else a hash
    of what was fitted.
    """
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
        self.model = self._go_on(clone(self.estimator), 0, 1)
        self.before = output(self.model, X)
        self.after = self.continued({})
        # Without a seed of its own a model shows differences that are no effect of a parameter.
        self.repeatable = _equal(self.after, self.continued({}))
        # Of a model that has nothing left to learn from these rows, nothing can be told.
        self.idle = _equal(self.after, self.before)

    def _go_on(self, model, before, units):
        continue_fit(model, self.X, self.y, units, before + units, self.resource, self.classes, {})
        return model

    def continued(self, change):
        model = copy.deepcopy(self.model).set_params(**clone(change, safe=False))
        return output(self._go_on(model, 1, UNITS), self.X)

    def verdict(self, name, value):
        """ "live", "ignored" or "anew"."""
        change, back = {name: value}, {name: self.model.get_params()[name]}
        model = copy.deepcopy(self.model).set_params(**clone(change, safe=False))
        try:
            # A parameter of predictions (a threshold) changes them at once as well, but then they
            # can be had back.
            kept = _equal(output(model, self.X), self.before) or _equal(
                output(model.set_params(**clone(back, safe=False)), self.X), self.before
            )
        except Exception:  # it forgot that it was fitted
            kept = False
        after = self.continued(change)
        changed = clone(self.estimator).set_params(**clone(change, safe=False))
        fresh = output(self._go_on(changed, 0, UNITS), self.X)
        if not kept or (self.repeatable and _equal(after, fresh) and not _equal(after, self.after)):
            return "anew"
        ignored = self.repeatable and not self.idle and _equal(after, self.after)
        return "ignored" if ignored else "live"


def dead_parameters(estimator, X, y, resource, classes, distributions, starts, random_state):
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
    starts : list of dict
        Parameters of the models that are tried; what is dead in one may be alive in another.
    random_state : numpy.random.RandomState

    Returns
    -------
    dict of str to str
        Name to "ignored" or "anew". Parameters for which a trial itself fails are not among them:
        the search will say what is wrong with them.
    """
    dead = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in starts:
            suspects = {
                name: d for name, d in distributions.items() if dead is None or name in dead
            }
            if not suspects:
                break
            try:
                model = clone(estimator).set_params(**clone(start, safe=False))
                rehearsal = _Rehearsal(model, X, y, resource, classes)
            except Exception:
                return {}
            found = {
                name: _verdict(rehearsal, name, d, start[name], random_state)
                for name, d in suspects.items()
            }
            dead = {
                name: why
                for name, why in found.items()
                if why != "live" and why == (dead or found)[name]
            }
    return dead


def _verdict(rehearsal, name, distribution, present, random_state):
    """Of up to two other values of a parameter: "live" if one of them is."""
    values = {joblib.hash(v): v for v in (draw(distribution, random_state) for _ in range(DRAWS))}
    values.pop(joblib.hash(present), None)
    verdict = "live"
    for value in list(values.values())[:2]:
        try:
            verdict = rehearsal.verdict(name, value)
        except Exception:
            return "live"
        if verdict == "live":
            break
    return verdict
