"""What a population search refuses before any training."""

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import type_of_target

from ...utils._sklearn import safe_split
from .._mutation import check_distributions, draw
from .._running._evaluate import stratified_order, way_to_continue
from .._trials import in_last_step
from ._explore import mutable_names, smooth_names
from ._live import dead_parameters
from ._members import last_name, last_step, split_parameters

# Models on which a parameter must be dead to be refused; the first tells most of the living.
STARTS = 5


def check_population(search, X, y, groups):
    """Refuse what would fail or do nothing.

    Parameters
    ----------
    search : PopulationSearchCV
        With parameters of allowed types.
    X, y, groups : as in ``fit``

    Raises
    ------
    ValueError
    """
    check_distributions(search.param_distributions, search.estimator)
    factors = np.asarray(search.factors)
    if (
        factors.ndim != 1
        or len(factors) == 0
        or factors.dtype.kind not in "fiu"
        or not (factors > 0).all()
    ):
        raise ValueError(
            f"factors must be a non-empty tuple of positive numbers, got {search.factors!r}."
        )
    if isinstance(search.scoring, list | tuple | dict) and search.refit is not False:
        raise ValueError(
            f"scoring={search.scoring!r} with refit={search.refit!r}: members compete by one "
            f"metric; name one, or set "
            "refit=False (the first then decides)."
        )
    _check_goes_on(search)
    mutable = mutable_names(search)
    foreign = sorted(set(mutable) - set(search.param_distributions))
    if foreign:
        raise ValueError(
            f"mutable names {foreign}, which param_distributions does not have; allowed are "
            f"{sorted(search.param_distributions)}."
        )
    if search.resource in search.param_distributions:
        raise ValueError(
            f"resource={search.resource!r} counts units and cannot be in param_distributions."
        )
    outer = sorted(split_parameters(search.estimator, dict.fromkeys(mutable))[0])
    if outer:
        raise ValueError(
            f"{outer} belong to steps before the last, which are fitted once; only parameters of "
            f"the last step may change "
            f"on a live model: leave them out of mutable (now {search.mutable!r})."
        )
    _check_hypergradient(search)
    classifier = is_classifier(search.estimator)
    if classifier and y is not None and np.asarray(y).dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    n_splits = check_cv(search.cv, y, classifier=classifier).get_n_splits(X, y, groups)
    if n_splits > 1 and search.refit is not False:
        raise ValueError(
            f"cv={search.cv!r} makes {n_splits} splits, and there is no single surviving model of "
            f"several: give one split, "
            "such as ShuffleSplit(n_splits=1, test_size=0.2, random_state=0), leave it None, or "
            "set refit=False."
        )
    if search.probe_rows and mutable:
        _check_live(search, X, y, mutable)


def _check_goes_on(search):
    estimator, resource = in_last_step(
        search.estimator, search.resource, "resource of a Pipeline must be a parameter"
    )
    known = estimator.get_params(deep=False)
    if resource not in known:
        raise ValueError(
            f"resource={search.resource!r} is no parameter of {type(estimator).__name__}, which "
            f"has {sorted(known)}."
        )
    if way_to_continue(estimator, resource) is None:
        raise ValueError(
            f"PopulationSearchCV needs an estimator with partial_fit or warm_start; "
            f"{type(estimator).__name__} has neither. "
            "RegularizedEvolutionSearchCV works with any estimator."
        )


def _check_hypergradient(search):
    if search.explore == "learned" and not search.hypergradient:
        raise ValueError(
            'explore="learned" learns from hypergradients: set hypergradient=True, or '
            'explore="random".'
        )
    if not search.hypergradient:
        return
    model = last_step(search.estimator)
    if not hasattr(model, "hypergradient"):
        raise ValueError(
            f"hypergradient=True needs a method hypergradient(X_val, y_val, names), which "
            f"{type(model).__name__} does not "
            "have; set hypergradient=False."
        )
    if not smooth_names(search):
        raise ValueError(
            "hypergradient=True needs a mutable parameter with a continuous distribution of "
            "scipy.stats; there is none "
            f"among {mutable_names(search)}."
        )


def _check_live(search, X, y, mutable):
    """Try the mutable parameters on a model of a few rows."""
    estimator, space = search.estimator, search.param_distributions
    classifier = is_classifier(estimator) and y is not None
    labels = y if classifier and type_of_target(y) in ("binary", "multiclass") else None
    random_state = np.random.RandomState(0)
    n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
    rows = np.sort(stratified_order(labels, np.arange(n_rows), random_state)[: search.probe_rows])
    X, y = safe_split(estimator, X, y, rows)
    starts = [
        {name: draw(d, random_state) for name, d in sorted(space.items())} for _ in range(STARTS)
    ]
    outer, _ = split_parameters(estimator, starts[0])
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        pipeline = clone(estimator).set_params(**clone(outer, safe=False))
        try:
            X = pipeline[:-1].fit_transform(X, y)
        except Exception:  # too few rows; the search will say if it is more than that
            return
    _, distributions = split_parameters(estimator, {name: space[name] for name in mutable})
    model, resource = last_step(estimator, starts[0]), last_name(estimator, search.resource)
    classes = None if labels is None else np.unique(labels)
    starts = [split_parameters(estimator, start)[1] for start in starts]
    dead = dead_parameters(model, X, y, resource, classes, distributions, starts, random_state)
    if dead:
        why = {
            "ignored": "changes nothing in a fitted model",
            "anew": "makes a fitted model start anew",
        }
        told = "; ".join(f"{name!r} {why[verdict]}" for name, verdict in sorted(dead.items()))
        raise ValueError(
            f"{type(model).__name__}: {told}. Name in mutable only what can change on a live model "
            f"({sorted(set(distributions) - set(dead))}; the others then stay with a member for "
            f"life). It was tried on "
            f"{len(rows)} rows: raise probe_rows if these are too few, or set it to 0 if you know "
            f"better."
        )
