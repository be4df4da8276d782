"""Parts of a population search: the last step of a pipeline and what stands before it,
hypergradients of its members.
"""

from numbers import Real

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from ...utils._sklearn import safe_split
from .._running._checkpoint import identity
from .._running._evaluate import _Catch as Caught
from .._running._evaluate import in_last_step, transform_fold


def split_parameters(estimator, parameters):
    """Parameters of the steps before the last of a Pipeline, and those of its last step without the
    step's name.

    Returns
    -------
    tuple (outer dict, inner dict)
        Of an estimator that is no Pipeline all are inner.
    """
    if not isinstance(estimator, Pipeline):
        return {}, dict(parameters)
    outer, _, inner, _ = in_last_step(estimator, parameters, {})
    return outer, inner


def last_step(estimator, parameters=None):
    """The part of an estimator that goes on, by ``parameters`` if these replace the last step of a
    Pipeline.
    """
    if not isinstance(estimator, Pipeline):
        return estimator
    return in_last_step(estimator, parameters or {}, {})[1]


def last_name(estimator, name):
    """A parameter's name in the last step."""
    return (
        name.removeprefix(estimator.steps[-1][0] + "__")
        if isinstance(estimator, Pipeline)
        else name
    )


class Gradients:
    """A checkpoint that adds hypergradients; stands between the engine and the real checkpoint.

    Parameters
    ----------
    keep : Checkpoint or NoCheckpoint
    estimator : estimator
        Of the search.
    X, y, fit_params
        All rows, and what ``fit`` of the estimator is given with them.
    names : list of str
        Parameters by which to differentiate, by their names in the last step.
    """

    def __init__(self, keep, estimator, X, y, fit_params, names):
        self.keep, self.estimator, self.names = keep, estimator, names
        self.X, self.y, self.fit_params = X, y, fit_params
        self.parameters: dict[int, dict] = {}
        self.found: dict[tuple[int, int], dict] = {}
        self.folds: dict[tuple[str, int], tuple] = {}

    def expect(self, first, batch):
        """To be told by the policy: the trials that are evaluated next, and the row of the
        first.
        """
        self.parameters = {first + k: trial.params for k, trial in enumerate(batch)}
        self.found = {}

    def settings(self, fresh):
        settings = self.keep.settings(fresh)
        self.splits = settings["splits"]
        return settings

    def load(self, row, split):
        stored = self.keep.load(row, split)
        if stored is not None:
            self.found[row, split] = stored.pop("hypergradient")
        return stored

    def save(self, row, split, result):
        gradient = (
            {} if result["state"] is None else self._differentiate(row, split, result["state"])
        )
        self.keep.save(row, split, {**result, "hypergradient": gradient})
        self.found[row, split] = gradient

    def __getattr__(self, name):  # all else is as in the real one
        return getattr(self.keep, name)

    def of(self, row):
        """Mean hypergradient of a row over the splits: dict of name to float, of the names that all
        splits have.
        """
        found = [self.found[row, s] for s in range(len(self.splits))]
        return {
            n: float(np.mean([g[n] for g in found]))
            for n in self.names
            if all(n in g for g in found)
        }

    def _test_rows(self, row, split):
        train, test = self.splits[split]
        if not isinstance(self.estimator, Pipeline):
            return safe_split(self.estimator, self.X, self.y, test, train)
        outer, _ = split_parameters(self.estimator, self.parameters[row])
        key = identity(outer), split
        if key not in self.folds:
            fold = transform_fold(
                self.estimator, outer, self.X, self.y, train, test, self.fit_params
            )
            self.folds[key] = fold[2:4]
        return self.folds[key]

    def _differentiate(self, row, split, model):
        found = model.hypergradient(*self._test_rows(row, split), list(self.names))
        if not isinstance(found, dict) or not all(
            n in self.names and isinstance(g, Real) for n, g in found.items()
        ):
            raise TypeError(
                f"{type(model).__name__}.hypergradient must return a dict of some of the names "
                f"{self.names} to numbers, "
                f"got {found!r}."
            )
        return {name: float(g) for name, g in found.items()}


def fitted_head(pipeline, parameters, X, y, fit_params):
    """The steps before the last, fitted.

    Parameters
    ----------
    pipeline : Pipeline
    parameters : dict
        Of a member.
    X, y, fit_params
        Training rows, and parameters of ``fit`` of the pipeline for them.

    Returns
    -------
    tuple (Pipeline, X, fit_params)
        The pipeline without its last step (None if it has no other), what reaches the last step,
        and the parameters of its ``fit``.
    """
    outer, _ = split_parameters(pipeline, parameters)
    whole = clone(pipeline).set_params(**clone(outer, safe=False))
    name, last = whole.steps[-1]
    catch = Caught(last)
    whole.steps[-1] = name, catch
    whole.fit(X, y, **fit_params)
    return whole[:-1] if len(whole.steps) > 1 else None, *catch.caught_


def behind(pipeline, head, model):
    """A pipeline of fitted parts: a model behind the steps of ``head``, if there are some."""
    whole = clone(pipeline)
    whole.steps = [*([] if head is None else head.steps), (pipeline.steps[-1][0], model)]
    return whole
