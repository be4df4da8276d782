"""The state of fitted selectors of columns and of `GLIDER`: what is written, and what is checked
when it is read.
"""

import numpy as np
from sklearn.base import BaseEstimator

from ..base import DESCRIBED, SLOTS
from ..feature_crossing import FieldCrosser
from ..feature_selection._subsets._subset_selector import ranking
from ..preprocessing import FieldEncoder
from ..utils._state import snapshot
from ._crossing import check_names
from ._encoder import number, take
from ._nodes import refuse

_SELECTOR = ("support", "scores", "ranking", "architecture", "encoder", "value_support")
_SUBSETS = ("names", "n_features", "has_feature_names", "all_finite", "support", "scores", "told")
# What searches over subsets tell beside their choice, by name of the attribute.
_TOLD = {
    "best_score_": int | float | np.floating,
    "no_fields_score_": int | float | np.floating,
    "n_evaluations_": int,
    "search_history_": list,
    "state_values_": dict,
    **dict.fromkeys(
        ("visits_", "selection_frequency_", "relevance_", "suspicion_", "sample_support_"),
        np.ndarray,
    ),
}
_GLIDER = ("crosser", "estimator", "scores", "interaction_scores", "interaction_counts", "n_bins")


def selector_state(selector):
    """Values from which `restore_selector` makes the fitted attributes."""
    s = snapshot(selector)
    state = {name: getattr(s, f"{name}_") for name in _SELECTOR[:-1]}
    return state | {"value_support": getattr(s, "value_support_", None)}


def restore_selector(selector, state):
    """Set the fitted attributes of a new `FieldSelector` from what a file says."""
    support, scores, ranking, architecture, encoder, values = take(
        state, _SELECTOR, "FieldSelector"
    )
    inner = getattr(encoder, "estimator", encoder)
    if type(inner) is not FieldEncoder or not hasattr(inner, "_derived"):
        refuse("encoder", "a fitted FieldEncoder", encoder)
    n = inner.n_features_in_
    for name, array, kind in (
        ("support", support, "b"),
        ("scores", scores, "f"),
        ("ranking", ranking, "i"),
    ):
        if (
            not isinstance(array, np.ndarray)
            or array.shape != (n,)
            or array.dtype.kind != kind
            or (kind == "f" and np.isnan(array).any())
        ):
            refuse(name, f"one value for each of {n} columns", array)
    if sorted(ranking.tolist()) != list(range(1, n + 1)):
        refuse("ranking", f"the numbers from 1 to {n}", ranking)
    if not isinstance(architecture, dict) or not architecture.keys() <= {*SLOTS, *DESCRIBED}:
        refuse("architecture", "a dict by slot", architecture)
    if values is not None:
        sizes = {
            str(inner.field_names_[f]): size
            for f, (column, size) in enumerate(zip(inner.categorical_, inner.n_ids_, strict=True))
            if support[column]
        }
        good = isinstance(values, dict) and values.keys() == sizes.keys()
        if not good or not all(
            isinstance(kept, np.ndarray) and kept.dtype == bool and kept.shape == (sizes[name],)
            for name, kept in values.items()
        ):
            refuse("value_support", f"booleans of the ids of {sorted(sizes)}", values)
        selector.value_support_ = values
    selector.support_, selector.scores_, selector.ranking_ = support, scores, ranking
    selector.architecture_, selector.encoder_ = architecture, encoder
    selector.n_features_in_ = n
    if hasattr(inner, "feature_names_in_"):
        selector.feature_names_in_ = inner.feature_names_in_


def subsets_state(selector):
    """Values from which `restore_subsets` makes the fitted attributes of a search over subsets."""
    s = snapshot(selector)
    told = {name: vars(s)[name] for name in _TOLD if name in vars(s)}
    if "state_values_" in told:  # by bitmasks, of any length
        told["state_values_"] = {f"{k:x}": v for k, v in told["state_values_"].items()}
    return {
        "names": s._names,
        "n_features": s.n_features_in_,
        "has_feature_names": hasattr(s, "feature_names_in_"),
        "all_finite": s._all_finite,
        "support": s.support_,
        "scores": s.scores_,
        "told": told,
    }


def restore_subsets(selector, state):
    """Set the fitted attributes of a new selector that searched over subsets."""
    names, n, has_names, finite, support, scores, told = take(state, _SUBSETS, "The selector")
    if type(n) is not int or n < 1:
        refuse("n_features", "an int of at least 1", n)
    check_names(names, n, has_names)
    if finite not in (True, False):
        refuse("all_finite", "True or False", finite)
    for name, array, kind in (("support", support, "b"), ("scores", scores, "f")):
        good = isinstance(array, np.ndarray) and array.shape == (n,) and array.dtype.kind == kind
        if not good:
            refuse(name, f"one value for each of {n} columns", array)
    if not isinstance(told, dict) or not all(
        name in _TOLD and isinstance(value, _TOLD[name]) for name, value in told.items()
    ):
        refuse("told", f"some of {sorted(_TOLD)}", told)
    if "state_values_" in told:
        values, longest = told["state_values_"], n // 4 + 1
        if not all(isinstance(k, str) and len(k) <= longest for k in values):
            refuse("state_values_", f"by hexadecimal text of at most {longest} digits", values)
        told["state_values_"] = {int(k, 16): v for k, v in values.items()}
    selector.n_features_in_, selector._names, selector._all_finite = n, names, finite
    if has_names:
        selector.feature_names_in_ = np.array(names, dtype=object)
    selector.support_, selector.scores_ = support, scores
    selector.ranking_ = ranking(support, scores)
    for name, value in told.items():
        setattr(selector, name, value)


def glider_state(glider):
    """Values from which `restore_glider` makes the fitted attributes of a `GLIDER`."""
    g = snapshot(glider)
    state = {name: getattr(g, f"{name}_") for name in _GLIDER}
    # One that was fitted before is a parameter already.
    return state | {"estimator": None if g.prefit else g.estimator_}


def restore_glider(glider, state):
    """Set the fitted attributes of a new `GLIDER` from what a file says."""
    crosser, estimator, scores, strengths, counts, n_bins = take(state, _GLIDER, "GLIDER")
    if type(crosser) is not FieldCrosser or not hasattr(crosser, "_combinations"):
        refuse("crosser", "a fitted FieldCrosser", crosser)
    if glider.prefit != (estimator is None) or not (
        estimator is None or isinstance(estimator, BaseEstimator)
    ):
        refuse("estimator", "an estimator, None with prefit=True", estimator)
    n = len(crosser.crosses_)
    if (
        not isinstance(scores, np.ndarray)
        or scores.dtype != np.float64
        or scores.shape != (n,)
        or not np.isfinite(scores).all()
    ):
        refuse("scores", f"{n} finite floats", scores)
    for name, found in (("interaction_scores", strengths), ("interaction_counts", counts)):
        if not isinstance(found, dict) or not all(
            isinstance(key, tuple) and all(isinstance(label, str) for label in key) for key in found
        ):
            refuse(name, "a dict by names of columns", found)
        for key, value in found.items():
            number(value, f"{name} of {key!r:.60}", low=0.0)
    if not isinstance(n_bins, dict) or not all(
        isinstance(key, str) and type(value) is int for key, value in n_bins.items()
    ):
        refuse("n_bins", "ints by column", n_bins)
    glider.crosser_, glider.crosses_ = crosser, crosser.crosses_
    glider.interactions_ = list(crosser.crosses_)
    glider.estimator_ = glider.estimator if estimator is None else estimator
    glider.scores_, glider.n_bins_ = scores, n_bins
    glider.interaction_scores_, glider.interaction_counts_ = strengths, counts
    glider.n_features_in_ = crosser.n_features_in_
    glider.field_names_ = list(crosser._labels)
    if hasattr(crosser, "feature_names_in_"):
        glider.feature_names_in_ = crosser.feature_names_in_
