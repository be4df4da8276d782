"""Embeddings into a model: vectors with which tables start, and which stay as they are."""

import warnings

import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator

from ..base import resolve_network
from ..engine._search_phase import check_methods
from ..nn._given import GivenVectors
from ..preprocessing._labels import add_values, ids_of_labels, new_values
from ._settings import setting
from ._vectors import field_of_column

__all__ = ["add_frozen_values", "check_embeddings", "given_vectors"]

MANY = 0.5  # share of values without a vector that is told


def check_embeddings(estimator):
    """Refuse, before any work, frames that no table could start from.

    Raises
    ------
    ValueError
        Naming the parameter, what was given and what is allowed.
    """
    given, frozen = _given(estimator), _frozen(estimator)
    for column in frozen:
        if column not in given:
            raise ValueError(
                f"frozen_embeddings names {column!r}, which has no vectors in initial_embeddings; "
                f"these are for {list(given)!r:.200}."
            )
    if not given:
        return
    methods = check_methods(estimator.search, estimator.joint)
    network = resolve_network(estimator.network)
    filled = [m for m in methods if "embedding" in m.slots or getattr(m, "fit_only", ())]
    if filled or "embedding" not in network.slots:
        what = f"search={filled[0]!r:.200}" if filled else f"network={network!r:.200}"
        raise ValueError(
            f"initial_embeddings={list(given)!r:.200} are for plain tables of embeddings, in "
            f"networks with the slot 'embedding' that no search fills, got {what}."
        )
    for column, frame in given.items():
        _vectors(column, frame, setting(estimator, "embedding_dim"))


def _given(estimator):
    return estimator.initial_embeddings or {}


def _frozen(estimator):
    return [] if estimator.frozen_embeddings is None else list(estimator.frozen_embeddings)


def _vectors(column, frame, dim):
    """The vectors of a frame, float32 (n, d)."""
    told = f"initial_embeddings[{column!r}]"
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(
            f"{told} must be a pandas DataFrame with a row a value, got {type(frame).__name__}."
        )
    if frame.shape[1] != dim:
        raise ValueError(
            f"{told} has vectors of {frame.shape[1]} numbers, the embeddings of column {column!r} "
            f"have embedding_dim={dim}; set embedding_dim={frame.shape[1]}, or bring the vectors "
            f"to {dim} numbers, by sklearn.decomposition.PCA({dim}) for instance."
        )
    try:
        vectors = frame.to_numpy(np.float64, na_value=np.nan).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{told} must hold numbers: {error}") from error
    if not len(vectors) or not np.isfinite(vectors).all():
        place = np.argwhere(~np.isfinite(vectors))[:1].tolist()
        row = f"; the row of {frame.index[place[0][0]]!r} does not" if place else ""
        raise ValueError(f"{told} must have rows of finite numbers of float32{row}.")
    return vectors


def _inner(encoder):
    return encoder.estimator if isinstance(encoder, FrozenEstimator) else encoder


def _part(encoder, column):
    """The field and the part of a column whose values can be told."""
    field, part = field_of_column(encoder, column, "initial_embeddings")
    if encoder._fields[part].n_hash_buckets:
        raise ValueError(
            f"initial_embeddings names {column!r}, a hashed column, whose values share ids; raise "
            f"hash_threshold of the encoder for it."
        )
    return field, part


def add_frozen_values(estimator, encoder):
    """Give values ids that the training rows do not have, or too rarely, but frozen vectors do;
    whether there were any.

    Parameters
    ----------
    estimator : CTRClassifier or RatingRegressor
    encoder : FieldEncoder or FrozenEstimator of one
        Just fitted, with its counts; it is changed. A frozen one stays as it is.
    """
    if isinstance(encoder, FrozenEstimator):
        return False
    added = False
    for column in _frozen(estimator):
        _, part = _part(encoder, column)
        values = new_values(encoder, part, _given(estimator)[column].index)
        added = add_values(encoder, part, values) or added
    return added


def given_vectors(estimator, encoder):
    """Vectors that tables start with, as a tuple of `GivenVectors`.

    Parameters
    ----------
    estimator : CTRClassifier or RatingRegressor
        Its parameters, which `check_embeddings` has seen.
    encoder : FieldEncoder or FrozenEstimator of one

    Raises
    ------
    ValueError
        For a column that is not there, has no ids or shares its table with another one that is
        given vectors, for values that are there twice, and if no value of a frame is one of the
        column.

    Warns
    -----
    UserWarning
        If more than half of the values of a column have no vector.
    """
    encoder, found, owners = _inner(encoder), [], {}
    given, frozen = _given(estimator), _frozen(estimator)
    for column, frame in given.items():
        told = f"initial_embeddings[{column!r}]"
        field, part = _part(encoder, column)
        owner = encoder._schema.shared.get(part, part)
        if owner in owners:
            raise ValueError(
                f"initial_embeddings has vectors for {owners[owner]!r} and {column!r}, which share "
                f"one table; give them for one of the two."
            )
        owners[owner] = column
        ids = ids_of_labels(encoder, part, frame.index)
        rows = np.flatnonzero(ids >= 0)
        values, counts = np.unique(ids[rows], return_counts=True)
        if (counts > 1).any():
            twice = frame.index[rows[ids[rows] == values[counts > 1][0]]].tolist()
            raise ValueError(f"{told} has more than one row for a value: {twice[:3]!r:.200}.")
        n_values, n_known = encoder._fields[part].n_ids - 2, int((values >= 2).sum())
        if not n_known:
            raise ValueError(
                f"{told} has no row for a value of the column; its index begins with "
                f"{frame.index[:3].tolist()!r:.200}, the values with "
                f"{encoder._fields[part].categories[:3].tolist()!r:.200}."
            )
        if n_values - n_known > MANY * n_values:
            warnings.warn(
                f"{told} has no row for {1 - n_known / n_values:.0%} of the {n_values} values of "
                f"column {column!r}, which start as usual.",
                UserWarning,
                stacklevel=2,
            )
        rows = rows[np.argsort(ids[rows])]
        vectors = _vectors(column, frame, setting(estimator, "embedding_dim"))[rows]
        name = str(encoder.field_names_[field])
        found.append(GivenVectors(name, ids[rows], vectors, column in frozen))
    return tuple(found)
