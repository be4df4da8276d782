"""One fit and its scores: afresh, or going on with a fitted candidate."""

import copy
import time
from contextlib import nullcontext
from inspect import signature
from numbers import Number
from traceback import format_exc

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.utils.metadata_routing import get_routing_for_object

from ...utils._sklearn import check_method_params, fit_and_score, safe_split, score


def stratified_order(y, rows, random_state):
    """The rows in an order whose every beginning holds the classes in the proportions of all.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or None
        Classes, or None for an order without strata.
    rows : ndarray of int
    random_state : numpy.random.RandomState

    Returns
    -------
    ndarray of int, shape (len(rows),)
    """
    rows = random_state.permutation(rows)
    if y is None:
        return rows
    classes, code, counts = np.unique(np.ravel(y)[rows], return_inverse=True, return_counts=True)
    position = np.empty(len(rows))
    for c in range(len(classes)):
        position[code == c] = (np.arange(counts[c]) + 0.5) / counts[c]
    return rows[np.argsort(position, kind="stable")]


def evaluate(estimator, X, y, *, train, test, parameters, **options):
    """Clone, fit, score: scikit-learn's own. Returns its dict of results."""
    return fit_and_score(
        clone(estimator),
        X,
        y,
        train=train,
        test=test,
        parameters=parameters,
        return_n_test_samples=True,
        return_times=True,
        return_parameters=False,
        **options,
    )


def lost_result(error, *, scorer, return_train_score, error_score):
    """What scikit-learn would return had the fit raised, where nothing came back; raises if
    ``error_score`` says so.
    """
    if error_score == "raise":
        raise RuntimeError(error)
    names = getattr(scorer, "_scorers", None)
    scores = error_score if names is None else dict.fromkeys(names, error_score)
    result = {"fit_error": error, "test_scores": scores, "fit_time": np.nan, "score_time": 0.0}
    return result | ({"train_scores": scores} if return_train_score else {})


def way_to_continue(estimator, resource):
    """How a fitted model gets more of a resource, or None if there is no way.

    Returns
    -------
    {"until", "after", "partial_fit", "more"} or None
        "until": ``fit`` with ``warm_start=True`` goes on until so many units in all. So it is with
        ``n_estimators``, with scikit-learn's histogram boosting, and where the estimator's
        ``warm_start_until`` names the resource. "after": ``fit`` with the model as ``init_model``
        adds units (LightGBM). "partial_fit": a call is a unit. "more": ``fit`` with
        ``warm_start=True`` adds units (``max_iter`` of scikit-learn's linear models).
    """
    parameters = estimator.get_params(deep=False)
    if resource not in parameters:
        return None
    until = resource == "n_estimators" or resource in getattr(estimator, "warm_start_until", ())
    until = until or isinstance(
        estimator, HistGradientBoostingClassifier | HistGradientBoostingRegressor
    )
    if until and "warm_start" in parameters:
        return "until"
    if "init_model" in signature(estimator.fit).parameters:
        return "after"
    if hasattr(estimator, "partial_fit"):
        return "partial_fit"
    return "more" if "warm_start" in parameters else None


def continue_fit(model, X, y, units, total, resource, classes, fit_params):
    """More of a resource for a model that may have had some.

    Parameters
    ----------
    model : estimator
        Changed in place.
    units, total : int
        How much more, and how much there will have been.
    classes : ndarray or None
        For ``partial_fit`` of classifiers.
    """
    way = way_to_continue(model, resource)
    if way is None:
        raise ValueError(f"{type(model).__name__} cannot go on in {resource!r}.")
    target = () if y is None else (y,)
    if way == "partial_fit":
        # A net of skorch trains for ``max_epochs`` in a call; others leave the parameter unread
        # there.
        model.set_params(**{resource: 1})
        options = {} if classes is None else {"classes": classes}
        for _ in range(units):
            model.partial_fit(X, *target, **options, **fit_params)
        return
    more = {"warm_start": True} if way in ("until", "more") else {}
    if way == "after" and units < total:
        fit_params = {**fit_params, "init_model": copy.deepcopy(model)}
    model.set_params(**{resource: total if way == "until" else units}, **more)
    model.fit(X, *target, **fit_params)


class _Catch(BaseEstimator):
    """Stands at the end of a pipeline and keeps what reaches it; asks for the metadata of the
    estimator it replaces.
    """

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y=None, **params):
        self.caught_ = X, params
        return self

    def get_metadata_routing(self):
        return get_routing_for_object(self.estimator)


def split_fold(estimator, X, y, train, test, fit_params):
    """A fold as (X_train, y_train, X_test, y_test, parameters of fit for its training rows)."""
    fit_params = check_method_params(X, fit_params, train)
    return (
        *safe_split(estimator, X, y, train),
        *safe_split(estimator, X, y, test, train),
        fit_params,
    )


def transform_fold(pipeline, parameters, *data):
    """What the steps before the last make of a fold.

    Parameters
    ----------
    pipeline : Pipeline
    parameters : dict
        Of the steps before the last.
    *data
        As in `split_fold`, and so is the result: its parameters are those of the last step's
        ``fit``.
    """
    pipeline = clone(pipeline).set_params(**clone(parameters, safe=False))
    X_train, y_train, X_test, y_test, fit_params = split_fold(pipeline, *data)
    name, last = pipeline.steps[-1]
    catch = _Catch(last)
    pipeline.steps[-1] = name, catch
    pipeline.fit(X_train, y_train, **fit_params)
    X_train, fit_params = catch.caught_
    if len(pipeline.steps) > 1:
        X_test = pipeline[:-1].transform(X_test)
    return X_train, y_train, X_test, y_test, fit_params


def in_last_step(pipeline, parameters, edits):
    """Parameters of a pipeline as (those of the steps before the last, the last step, its
    parameters, its edits).
    """
    name, last = pipeline.steps[-1]
    prefix = name + "__"
    outer = {k: v for k, v in parameters.items() if k != name and not k.startswith(prefix)}
    if not all(k.startswith(prefix) for k in edits):
        raise ValueError(
            f"a fitted pipeline goes on in its last step {name!r} alone, not in {sorted(edits)}."
        )
    inner = {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}
    return (
        outer,
        parameters.get(name, last),
        inner,
        {k.removeprefix(prefix): v for k, v in edits.items()},
    )


def evaluate_warm(
    estimator,
    *data,
    fold,
    state,
    parameters,
    edits,
    before,
    total,
    resource,
    scorer,
    score_params,
    return_train_score,
    error_score,
    classes,
    caller,
    callback_ctx,
):
    """Go on with a fitted model, or start one; score it.

    Parameters
    ----------
    estimator : estimator
        What to start from if there is no ``state``. Never changed.
    *data
        As in `split_fold`; left out where there is a fold.
    fold : tuple, str or None
        What `transform_fold` gave, or the traceback of its failure.
    state : estimator or None
        The model so far. Never changed: a copy goes on, since a model may have several children,
        and as pickles may leave out what training alone needs, all must lose it alike.
    parameters : dict
        Of a new model.
    edits : dict
        Parameters to change on a model that goes on (population-based training).
    before, total : int
        How much of the resource the model has had, and how much it will have had.
    score_params : tuple of dict
        For the training rows and for the test rows.

    Returns
    -------
    dict
        As scikit-learn's, with the model under "state" (None if it failed) and what it took under
        "units".
    """
    if not isinstance(error_score, Number) and error_score != "raise":
        raise ValueError(f"error_score must be 'raise' or a number, got {error_score!r}.")
    if state is None:
        before = 0
        model = clone(estimator).set_params(**clone(parameters, safe=False))
    else:
        model = copy.deepcopy(state).set_params(**clone(edits, safe=False))
    start = time.time()
    result = {
        "fit_error": fold if isinstance(fold, str) else None,
        "state": None,
        "units": total - before,
    }
    X_train = y_train = None
    if not result["fit_error"]:
        X_train, y_train, X_test, y_test, fit_params = fold or split_fold(estimator, *data)
    task = {"estimator": caller, "X": X_train, "y": y_train}
    observed = callback_ctx is not None
    # A model that calls ``fit`` once reports to the callbacks of the search.
    single = observed and way_to_continue(model, resource) != "partial_fit"
    try:
        with callback_ctx.propagate_callback_context(model) if single else nullcontext():
            if observed:
                callback_ctx.call_on_fit_task_begin(**task)
            if not result["fit_error"]:
                continue_fit(
                    model, X_train, y_train, total - before, total, resource, classes, fit_params
                )
    except Exception:
        if error_score == "raise":
            raise
        result["fit_error"] = format_exc()
    finally:
        if observed:
            callback_ctx.call_on_fit_task_end(**task)
    result["fit_time"] = time.time() - start
    if result["fit_error"]:
        names = getattr(scorer, "_scorers", None)
        failed = error_score if names is None else dict.fromkeys(names, error_score)
        result.update(test_scores=failed, score_time=0.0)
        if return_train_score:
            result["train_scores"] = failed
        return result
    scored = time.time()
    result["test_scores"] = score(model, X_test, y_test, scorer, score_params[1], error_score)
    result.update(score_time=time.time() - scored, state=model)
    if return_train_score:
        result["train_scores"] = score(
            model, X_train, y_train, scorer, score_params[0], error_score
        )
    return result
