"""The state of the crossed linear estimators: what is written, and what is checked when it
is read.
"""

import math

import numpy as np

from ..feature_crossing._combinations import RADIX_LIMIT, n_combinations
from ..linear_model import CrossedLinearClassifier
from ..linear_model._core import CrossedLinear, CrossedLinearOptions
from ..linear_model._terms import (
    TABLE_SIZE,
    CategoricalTerm,
    CrossTerm,
    NumericTerm,
    SequenceTerm,
    Terms,
)
from ..preprocessing import FieldEncoder
from ..utils._state import snapshot
from ._collisions import all_different
from ._encoder import number, take
from ._nodes import refuse

LARGEST = 1e200  # of a weight: sums over all places are finite
# Of the tables in which combinations are looked up, beside those that the file pays for.
TABLE_BYTES = 2**28
_MODEL = (
    "crosses",
    "gains",
    "granularities",
    "cross_bins",
    "keys",
    "weights",
    "bias",
    "rows",
    "penalties",
)


def linear_state(model):
    """Values from which `restore_linear` makes the fitted attributes."""
    model = snapshot(model)
    state = {"encoder": model.encoder_, "model": crossed_linear_to_state(model.model_)}
    return state | (
        {"classes": model.classes_} if isinstance(model, CrossedLinearClassifier) else {}
    )


def crossed_linear_to_state(core):
    """Plain values of a fitted `CrossedLinear`; sizes follow from its encoder."""
    crosses = core.terms.terms[len(core.terms.terms) - len(core.crosses) :]
    state = {name: getattr(core, name) for name in _MODEL if hasattr(core, name)}
    state["gains"] = [float(gain) for gain in core.gains]
    state["crosses"] = [tuple(int(i) for i in cross) for cross in core.crosses]
    state["cross_bins"] = [_bins_of_cross(core, term) for term in crosses]
    state["keys"] = [term.keys for term in crosses]
    return state


def _bins_of_cross(core, term):
    """Of each number in a cross, which of its granularities it has there."""
    found = []
    for field, part in zip(term.fields, term.parts, strict=True):
        if field >= core.n_categorical:
            options = core.granularities[field - core.n_categorical]
            found.append(
                next(k for k, edges in enumerate(options) if np.array_equal(edges, part.edges))
            )
    return found


def restore_linear(model, state):
    """Set the fitted attributes of a new estimator from what a file says."""
    where, classifier = type(model).__name__, isinstance(model, CrossedLinearClassifier)
    encoder, core, *target = take(
        state, ("encoder", "model", *(("classes",) if classifier else ())), where
    )
    if type(encoder) is not FieldEncoder or not hasattr(encoder, "_derived"):
        refuse(f"{where}: encoder", "a fitted FieldEncoder", encoder)
    n_outputs = 1
    if classifier:
        classes = target[0]
        good = isinstance(classes, np.ndarray) and classes.ndim == 1 and len(classes) > 1
        if not good or not np.array_equal(np.unique(classes), classes):
            refuse(f"{where}: classes", "two different labels or more, in order", classes)
        n_outputs = 1 if len(classes) == 2 else len(classes)
        model.classes_ = classes
    options = CrossedLinearOptions(
        model.max_crosses,
        model.max_order,
        model._granularities(),
        model.min_count,
        model.l2,
        model.min_gain,
        model.n_folds,
    )
    core = crossed_linear_from_state(core, encoder, n_outputs, options)
    core.logistic = classifier
    model.n_features_in_ = encoder.n_features_in_
    if hasattr(encoder, "feature_names_in_"):
        model.feature_names_in_ = encoder.feature_names_in_
    model._publish(encoder, core)


def crossed_linear_from_state(state, encoder, n_outputs, options=None):
    """A fitted `CrossedLinear` for the tables of an encoder.

    Parameters
    ----------
    state : dict
        As of `crossed_linear_to_state`.
    encoder : FieldEncoder
    n_outputs : int
    options : CrossedLinearOptions or None

    Raises
    ------
    ModelFileError
    """
    crosses, gains, granularities, cross_bins, keys, weights, bias, rows, penalties = take(
        state, _MODEL, "model"
    )
    core = CrossedLinear(options)
    core.n_outputs, core.n_categorical, core.n_numeric = (
        n_outputs,
        len(encoder.n_ids_),
        len(encoder.numeric_),
    )
    core.sizes, core.sequence_sizes = (
        [int(n) for n in encoder.n_ids_],
        [int(n) for n in encoder.sequence_n_ids_],
    )
    core.max_length = encoder.max_length if core.sequence_sizes else 0
    core.granularities = _checked_granularities(granularities, core.n_numeric)
    core.crosses = _checked_crosses(crosses, core.n_categorical + core.n_numeric)
    for name, values in (("gains", gains), ("cross_bins", cross_bins), ("keys", keys)):
        if not isinstance(values, list) or len(values) != len(crosses):
            refuse(name, f"a list of {len(crosses)}", values)
    core.gains = [number(gain, "gains", -LARGEST, LARGEST) for gain in gains]
    terms = core._single_terms([np.unique(np.concatenate(found)) for found in core.granularities])
    terms += [SequenceTerm(j, core.max_length, size) for j, size in enumerate(core.sequence_sizes)]
    # Terms that crosses share, or many crosses of one number would each copy its edges.
    made: dict = {}
    crossed = [_cross(core, *of, made) for of in zip(crosses, cross_bins, keys, strict=True)]
    core.terms = Terms([*terms, *crossed])
    if core.terms.n_weights >= 2**31:
        refuse("The number of weights", "below 2**31", core.terms.n_weights)
    _check_tables(crossed, weights)
    n, n_terms = core.terms.n_weights, len(core.terms.terms)
    core.weights = _checked_array("weights", weights, (n_outputs, n), "f8", -LARGEST)
    if core.weights[:, 0].any():
        refuse("weights", "0 in an empty place", core.weights[:, 0])
    core.bias = _checked_array("bias", bias, (n_outputs,), "f8", -LARGEST)
    core.rows = _checked_array(
        "rows", rows, (n,), "f8" if getattr(rows, "dtype", None) == np.float64 else "u4", 0.0
    )
    core.penalties = _checked_array(
        "penalties", penalties, (n_outputs, n_terms), "f8", 0.0, math.inf
    )
    return core


def _checked_array(name, values, shape, dtype, low, high=LARGEST):
    """An array of a shape and dtype whose values are within bounds, none of them NaN."""
    if (
        not isinstance(values, np.ndarray)
        or values.shape != shape
        or values.dtype != np.dtype(dtype)
    ):
        refuse(name, f"{np.dtype(dtype)} of shape {shape}", values)
    if not bool(((values >= low) & (values <= high)).all()):
        refuse(name, f"between {low} and {high}", values)
    return values


def _checked_granularities(found, n_numeric):
    def good(edges):
        finite = isinstance(edges, np.ndarray) and edges.ndim == 1 and edges.dtype == np.float64
        return finite and bool(np.isfinite(edges).all() and (np.diff(edges) > 0).all())

    if not isinstance(found, list) or len(found) != n_numeric:
        refuse("granularities", f"a list for each of {n_numeric} numbers", found)
    if not all(
        isinstance(options, list) and options and all(map(good, options)) for options in found
    ):
        refuse("granularities", "lists of rising finite edges", found)
    return found


def _checked_crosses(crosses, n):
    good = isinstance(crosses, list) and all(
        isinstance(cross, tuple)
        and len(cross) > 1
        and all(type(i) is int and 0 <= i < n for i in cross)
        and all_different(list(cross), "crosses")
        for cross in crosses
    )
    if not good or not all_different(crosses, "crosses"):
        refuse("crosses", f"different tuples of different positions below {n}", crosses)
    return crosses


def _cross(core, cross, bins, keys, made):
    """The term of a cross."""
    numbers = [i - core.n_categorical for i in cross if i >= core.n_categorical]
    if not isinstance(bins, list) or len(bins) != len(numbers):
        refuse(f"cross_bins of {cross}", f"{len(numbers)} ints", bins)
    parts, bins = [], iter(bins)
    for i in cross:
        j, k = i - core.n_categorical, 0
        if j >= 0 and (type(k := next(bins)) is not int or not 0 <= k < len(core.granularities[j])):
            refuse(f"cross_bins of {cross}", f"below {len(core.granularities[j])}", k)
        if (i, k) not in made:
            options = core.granularities[j] if j >= 0 else ()
            made[i, k] = (
                NumericTerm(j, core.n_numeric, options[k])
                if j >= 0
                else CategoricalTerm(i, core.sizes[i])
            )
        parts.append(made[i, k])
    if (
        not isinstance(keys, np.ndarray)
        or keys.ndim != 1
        or keys.dtype != np.int64
        or not (np.diff(keys) > 0).all()
    ):
        refuse(f"keys of {cross}", "rising int64", keys)
    term = CrossTerm(tuple(parts), cross, keys)
    n_keys = n_combinations(term.sizes)
    if len(keys) and n_keys <= RADIX_LIMIT and not 0 <= int(keys[0]) <= int(keys[-1]) < n_keys:
        refuse(f"keys of {cross}", f"in [0, {n_keys})", keys)
    return term


def _check_tables(crossed, weights):
    """Refuse crosses whose tables would take memory out of proportion to the file."""
    sizes = [n_combinations(term.sizes) for term in crossed]
    n_bytes = 4 * sum(size for size in sizes if size <= TABLE_SIZE)
    limit = TABLE_BYTES + 64 * getattr(weights, "nbytes", 0)
    if n_bytes > limit:
        refuse("The tables of the crosses", f"of at most {limit} bytes", n_bytes)
