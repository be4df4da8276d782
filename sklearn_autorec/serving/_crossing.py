"""The state of fitted `FieldCrosser` and `AutoCross`: what is written, and what is checked when it
is read.
"""

from itertools import pairwise

import numpy as np

from ..feature_crossing import FieldCrosser
from ..feature_crossing._combinations import RADIX_LIMIT, Combinations, n_combinations
from ..feature_crossing._reading import HALF_WIDTH, binned_columns, column_sizes
from ..preprocessing import FieldEncoder
from ..preprocessing._names import labels_of
from ..preprocessing._numeric import GRIDS
from ..utils._state import snapshot
from ._collisions import all_different
from ._encoder import field_state, number, take, vocabulary_of
from ._nodes import refuse

LARGEST_ID = 2**31 - 3
_CROSSER = (
    "names",
    "n_features",
    "has_feature_names",
    "positions",
    "crosses",
    "edges",
    "combinations",
    "encoder",
)
_SEARCH = ("crosser", "scores", "base_score", "scales", "search_history", "n_bins")


def columns_state(transformer):
    """What transformers of this kind know of the columns that they read."""
    return {
        "names": transformer._names,
        "n_features": transformer.n_features_in_,
        "has_feature_names": hasattr(transformer, "feature_names_in_"),
        "positions": transformer._positions,
        "edges": transformer._edges,
        "encoder": transformer.encoder_,
    }


def crosser_state(crosser):
    """Values from which `restore_crosser` makes the fitted attributes."""
    crosser = snapshot(crosser)
    return {
        **columns_state(crosser),
        "crosses": crosser._crosses,
        "combinations": [c.n_buckets or field_state(c.vocabulary) for c in crosser._combinations],
    }


def restore_crosser(crosser, state):
    """Set the fitted attributes of a new `FieldCrosser` from what a file says."""
    names, n, has_names, positions, crosses, edges, combinations, encoder = take(
        state, _CROSSER, "The crosser"
    )
    check_read_columns(names, n, has_names, positions, encoder)
    sequences = {positions[i] for i in (*encoder.sequence_, *encoder.vector_)}
    _check_crosses(crosses, set(positions) - sequences)
    numeric = [positions[i] for _, i in binned_columns(encoder)]
    check_edges(edges, numeric)
    sizes = column_sizes(encoder, positions, edges)
    if not isinstance(combinations, list) or len(combinations) != len(crosses):
        refuse("combinations", f"a list of {len(crosses)}", combinations)
    found = []
    for k, (cross, saved) in enumerate(zip(crosses, combinations, strict=True)):
        found.append(combinations_of([sizes[i] for i in cross], saved, f"Cross {k}"))
    labels = labels_of(names, n)
    crosser.n_features_in_ = n
    if has_names:
        crosser.feature_names_in_ = np.array(names, dtype=object)
    crosser._publish(names, labels, positions, crosses, edges, encoder, found)
    crosser._check_scales(labels, crosser.crosses_)


def _rising(values, high):
    ok = all(type(v) is int and 0 <= v < high for v in values)
    return ok and all(a < b for a, b in pairwise(values))


def check_read_columns(names, n, has_names, positions, encoder):
    """Refuse what a file says of the columns of a table, and of those that were encoded.

    Parameters
    ----------
    names : list or None
    n : int
        Columns of ``fit``.
    has_names : bool
        Whether scikit-learn saw names.
    positions : list of int
        Of what the encoder was fitted on.
    encoder : FieldEncoder
    """
    if type(n) is not int or n < 1:
        refuse("n_features", "an int of at least 1", n)
    check_names(names, n, has_names)
    if not isinstance(positions, list) or not positions or not _rising(positions, n):
        refuse("positions", f"rising ints below {n}", positions)
    _check_encoder(encoder, positions, names)


def check_names(names, n, has_names):
    """Refuse names that are not those of n columns, and the claim that scikit-learn saw them."""
    if names is not None and (
        not isinstance(names, list) or len(names) != n or not all_different(names, "names")
    ):
        refuse("names", f"None or {n} different column names", names)
    if has_names not in (True, False) or (
        has_names and not all(isinstance(name, str) for name in names or [None])
    ):
        refuse("has_feature_names", "True or False, and only True if names are strings", has_names)


def check_edges(edges, numeric):
    """Refuse edges of bins that are not rising scores, of just the numeric columns."""
    if (
        not isinstance(edges, dict)
        or sorted(edges) != numeric
        or not all(map(_cuts, edges.values()))
    ):
        refuse(
            "edges",
            f"rising scores in [-sqrt(3), sqrt(3)] for each of the columns {numeric}",
            edges,
        )


def _check_encoder(encoder, positions, names):
    if type(encoder) is not FieldEncoder or not hasattr(encoder, "_derived"):
        refuse("encoder", "a fitted FieldEncoder", encoder)
    if any(encoder._fields[i].method not in GRIDS for i in encoder._schema.numeric):
        refuse("encoder", 'one with numeric="rank" or "quantile"', encoder)
    wanted = None if names is None else [names[i] for i in positions]
    if encoder.n_features_in_ != len(positions) or encoder._schema.names != wanted:
        refuse(
            "The columns of the encoder",
            wanted or f"{len(positions)} in number",
            encoder._schema.names,
        )


def _check_crosses(crosses, known):
    high = max(known, default=0) + 1
    ok = isinstance(crosses, list) and all(
        isinstance(cross, tuple) and len(cross) > 1 and _rising(cross, high) and set(cross) <= known
        for cross in crosses
    )
    if not ok or not all_different(crosses, "crosses"):
        refuse("crosses", f"different tuples of rising positions among {sorted(known)}", crosses)


def _cuts(edges):
    return (
        isinstance(edges, np.ndarray)
        and edges.ndim == 1
        and edges.dtype == np.float64
        and bool((np.abs(edges) <= HALF_WIDTH).all() and (np.diff(edges) > 0).all())
    )


def combinations_of(sizes, saved, where):
    """`Combinations` from the number of hash buckets or a vocabulary of keys."""
    if isinstance(saved, int):
        if isinstance(saved, bool) or not 1 <= saved <= LARGEST_ID:
            refuse(f"{where}: number of ids", f"in [1, {LARGEST_ID}]", saved)
        return Combinations.restored(sizes, None, saved)
    vocabulary = vocabulary_of(saved, where)
    if vocabulary.kind not in ("i", None) or vocabulary.n_hash_buckets:
        refuse(f"{where}: values", "whole numbers", saved)
    keys, n_keys = vocabulary.categories, n_combinations(sizes)
    if len(keys) and n_keys <= RADIX_LIMIT and not 0 < int(keys.min()) <= int(keys.max()) < n_keys:
        refuse(f"{where}: values", f"in [1, {n_keys})", keys)
    return Combinations.restored(sizes, vocabulary, 0)


def search_state(search):
    """Values from which `restore_search` makes the fitted attributes of an `AutoCross`."""
    search = snapshot(search)
    return {name: getattr(search, f"{name}_") for name in _SEARCH}


def restore_search(search, state):
    """Set the fitted attributes of a new `AutoCross` from what a file says."""
    crosser, scores, base_score, scales, history, n_bins = take(state, _SEARCH, "AutoCross")
    if type(crosser) is not FieldCrosser or not hasattr(crosser, "_combinations"):
        refuse("crosser", "a fitted FieldCrosser", crosser)
    n = len(crosser.crosses_)
    if not isinstance(scores, np.ndarray) or scores.dtype != np.float64 or scores.shape != (n,):
        refuse("scores", f"{n} floats", scores)
    if not np.isfinite(scores).all():
        refuse("scores", "finite", scores)
    for name, values in (("scales", scales), ("n_bins", n_bins)):
        if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
            refuse(name, "a dict by column", values)
        for key, value in values.items():
            number(value, f"{name} of {key!r}", low=0.0)
    if not isinstance(history, list) or not all(isinstance(record, dict) for record in history):
        refuse("search_history", "a list of dicts", history)
    search.crosser_, search.crosses_, search.n_features_in_ = (
        crosser,
        crosser.crosses_,
        crosser.n_features_in_,
    )
    if hasattr(crosser, "feature_names_in_"):
        search.feature_names_in_ = crosser.feature_names_in_
    search.field_names_ = list(crosser._labels)
    search.scores_, search.base_score_ = scores, number(base_score, "base_score", -1e300, 1e300)
    search.scales_, search.n_bins_, search.search_history_ = scales, n_bins, history
