"""Names of the values that weights belong to."""

import math
from itertools import pairwise

import numpy as np

from ..feature_crossing._combinations import RADIX_LIMIT
from ..feature_crossing._reading import value_names
from ._terms import CategoricalTerm, NumericTerm, SequenceTerm


def in_own_unit(scaler, scores):
    """Scores of a fitted `NumericScaler` as values of its column."""
    if hasattr(scaler, "grid"):
        return np.interp(scores, scaler.score, scaler.grid)
    if scaler.method is None:
        return scores
    shape = scores * scaler.scale + scaler.mean
    return (
        np.sign(shape) * np.expm1(np.sqrt(np.abs(shape)))
        if scaler.method == "log_square"
        else shape
    )


def interval_names(scaler, edges):
    """Names of the ids of a number, object ndarray."""
    names = ["any"]
    if len(edges):
        cuts = [f"{x:.5g}" for x in in_own_unit(scaler, edges)]
        names = [f"< {cuts[0]}", *(f"[{a}, {b})" for a, b in pairwise(cuts)), f">= {cuts[-1]}"]
    return np.array(["<missing>", "<unused>", *names], dtype=object)


def value_names_of(model, encoder):
    """For each term of a `CrossedLinear` the names of its ids, list of object ndarray."""

    # By part: a column may be both an id and a number.
    fields, schema = encoder._fields, encoder._schema

    def names_of(term):
        if isinstance(term, CategoricalTerm):
            return value_names(fields[schema.categorical[term.field]])
        if isinstance(term, NumericTerm):
            return interval_names(fields[schema.numeric[term.field]], term.edges)
        if isinstance(term, SequenceTerm):
            return np.append(value_names(fields[schema.sequence[term.field]]), "<none>")
        return _combination_names(term, [names_of(part) for part in term.parts])

    return [names_of(term) for term in model.terms.terms]


def _combination_names(term, names):
    out = np.empty(term.size, dtype=object)
    out[0] = "<unseen or rare>"
    if math.prod(term.sizes) > RADIX_LIMIT:
        out[1:] = [f"<hash {key}>" for key in term.keys.tolist()]
        return out
    parts, keys = [], term.keys
    for size, values in zip(term.sizes[::-1], names[::-1], strict=True):
        parts.append(values[keys % size])
        keys = keys // size
    out[1:] = [" x ".join(row) for row in zip(*parts[::-1], strict=True)]
    return out
