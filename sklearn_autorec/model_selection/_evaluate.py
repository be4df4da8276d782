"""One fit and its scores: afresh, or going on with a fitted candidate."""

import time
from numbers import Number
from traceback import format_exc

import numpy as np
from sklearn.base import clone

from ..utils._sklearn import check_method_params, fit_and_score, safe_split, score


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
    classes, code, counts = np.unique(np.asarray(y)[rows], return_inverse=True, return_counts=True)
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


def continue_fit(model, X, y, units, total, resource, classes, fit_params):
    """More of ``resource`` for a model that may have had some.

    ``warm_start`` where the model has it and the resource counts what the model holds (``n_estimators``), else one
    ``partial_fit`` per unit.
    """
    if hasattr(model, "partial_fit") and resource != "n_estimators":
        options = {} if classes is None else {"classes": classes}
        for _ in range(units):
            model.partial_fit(X, y, **options, **fit_params)
        return
    model.set_params(warm_start=True, **{resource: total})
    model.fit(X, y, **fit_params)


def can_continue(estimator, resource):
    """Whether `continue_fit` knows how."""
    parameters = estimator.get_params(deep=False)
    return (hasattr(estimator, "partial_fit") and resource != "n_estimators") or (
        "warm_start" in parameters and resource in parameters
    )


def evaluate_warm(
    estimator,
    X,
    y,
    *,
    state,
    parameters,
    edits,
    units,
    total,
    resource,
    train,
    test,
    transformed,
    scorer,
    fit_params,
    score_params,
    return_train_score,
    error_score,
    classes,
):
    """Go on with a fitted model, or start one; score it.

    Parameters
    ----------
    estimator : estimator
        What to start from if there is no ``state``. Never changed.
    state : estimator or None
        The model so far.
    parameters : dict
        Of a new model.
    edits : dict
        Parameters to change on a model that goes on (population-based training).
    units, total : int
        How much more of the resource, and how much there will have been.
    transformed : tuple (X_train, X_test) or None
        What the steps before the model made of the rows.

    Returns
    -------
    dict
        As scikit-learn's, with the model under "state" (None if it failed).
    """
    fit_params = check_method_params(X, params=fit_params or {}, indices=train)
    on_train = check_method_params(X, params=score_params or {}, indices=train)
    on_test = check_method_params(X, params=score_params or {}, indices=test)
    X_train, y_train = safe_split(estimator, X, y, train)
    X_test, y_test = safe_split(estimator, X, y, test, train)
    if transformed is not None:
        X_train, X_test = transformed
    start = time.time()
    result = {"fit_error": None, "n_test_samples": len(test), "state": None}
    try:
        model = state
        if model is None:
            model = clone(estimator).set_params(**clone(parameters, safe=False))
        elif edits:
            model.set_params(**clone(edits, safe=False))
        continue_fit(model, X_train, y_train, units, total, resource, classes, fit_params)
    except Exception:
        if error_score == "raise":
            raise
        if not isinstance(error_score, Number):
            raise ValueError(f"error_score must be 'raise' or a number, got {error_score!r}.") from None
        names = getattr(scorer, "_scorers", None)
        failed = error_score if names is None else dict.fromkeys(names, error_score)
        result.update(fit_error=format_exc(), test_scores=failed, fit_time=time.time() - start, score_time=0.0)
        if return_train_score:
            result["train_scores"] = failed
        return result
    fitted = time.time()
    result["test_scores"] = score(model, X_test, y_test, scorer, on_test, error_score)
    result.update(fit_time=fitted - start, score_time=time.time() - fitted, state=model)
    if return_train_score:
        result["train_scores"] = score(model, X_train, y_train, scorer, on_train, error_score)
    return result
