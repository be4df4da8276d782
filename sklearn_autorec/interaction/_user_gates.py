"""Gates by user: how they are updated and stored, and how a fitted model tells them."""

import base64

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

from ..engine import batches_of
from ..nn import SquaredError, pair_index

LEVELS = 255  # a gate is stored in a byte
PASS_ROWS = 4096  # rows of one forward pass
MEMORY_CELLS = 2**26  # weights of pairs that are kept from pass to pass


def user_field(user_column, context):
    """Number of the field of the users.

    Raises
    ------
    ValueError
        If it is no categorical field, or the only field.
    """
    columns = list(context.field_names[: len(context.n_ids)])
    if context.n_fields < 2:
        raise ValueError(
            f"gates by user need at least 2 fields, the table has {context.n_fields}: "
            f"{context.field_names}."
        )
    if isinstance(user_column, str) and user_column in columns:
        return columns.index(user_column)
    if isinstance(user_column, str) or user_column >= len(columns):
        raise ValueError(
            f"user_column={user_column!r} must be a categorical column, by name or number; these "
            f"are {columns}."
        )
    return int(user_column)


def levels_to_text(levels):
    """A uint8 matrix as plain values: shape, and its bytes in base64."""
    text = base64.b64encode(np.ascontiguousarray(levels).tobytes()).decode("ascii")
    return {"shape": list(levels.shape), "levels": text}


def levels_from_text(text):
    """The matrix that `levels_to_text` wrote.

    Raises
    ------
    ValueError
        If the text is not such a dict, or the bytes do not fill the shape.
    """
    shape, levels = (text.get("shape"), text.get("levels")) if isinstance(text, dict) else (0, 0)
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
    if not whole or min(shape) < 0 or not isinstance(levels, str):
        raise ValueError(
            f"probabilities must be a dict of shape, two ints, and levels, base64 text, got "
            f"{text!r:.200}."
        )
    levels = np.frombuffer(base64.b64decode(levels, validate=True), np.uint8)
    if len(levels) != shape[0] * shape[1]:
        raise ValueError(
            f"probabilities of shape {shape} need {shape[0] * shape[1]} bytes, got {len(levels)}."
        )
    return levels.reshape(shape).copy()


def pair_gates(gates, heredity):
    """Probability that each pair of fields counts, from those of the fields.

    Parameters
    ----------
    gates : ndarray (n, F)
    heredity : {"weak", "strong"}

    Returns
    -------
    ndarray (n, P)
        With p = gate_i gate_j: p, or p (1 + gate_i + gate_j - 2 p) where a pair of which one field
        matters may count.
    """
    left, right = pair_index(gates.shape[1]).numpy()
    i, j = gates[:, left], gates[:, right]
    return i * j if heredity == "strong" else i * j * (1 + i + j - 2 * i * j)


def user_gates(model):
    """Which columns matter to which user, by a model fitted with `BPFIS`.

    Parameters
    ----------
    model : CTRClassifier or RatingRegressor
        Fitted with ``search=BPFIS()``.

    Returns
    -------
    DataFrame of shape (n_users, n_columns)
        Probabilities, a row for each user of the vocabulary (their values are the index), most
        frequent first. Users of a hashed column are the numbers of their ids.

    Raises
    ------
    AttributeError
        If the model has no gates by user.
    """
    return _gates_of(model)[0]


def user_interactions(model):
    """Which pairs of columns count for which user, by a model fitted with `BPFIS`.

    Parameters
    ----------
    model : CTRClassifier or RatingRegressor
        As for `user_gates`, which raises the same error.

    Returns
    -------
    DataFrame of shape (n_users, n_pairs)
        Probabilities, a row for each user, as `user_gates` has them; columns are pairs of names.
    """
    gates, params = _gates_of(model)
    pairs = pair_index(gates.shape[1]).T.tolist()
    names = [(gates.columns[i], gates.columns[j]) for i, j in pairs]
    values = pair_gates(gates.to_numpy(), params.get("heredity", "weak"))
    return pd.DataFrame(values, gates.index, pd.Index(names, tupleize_cols=False))


def _gates_of(model):
    """Gates of the known users, and the parameters of the method."""
    check_is_fitted(model, "encoder_")
    gate = model.architecture_.get("gate", {})
    if "probabilities" not in gate:
        raise AttributeError(
            f"search={model.search!r} has no gates by user; use for instance search=BPFIS()."
        )
    encoder = model.encoder_
    levels = levels_from_text(gate["probabilities"])[2:]  # after the missing and the unknown id
    values = encoder.categories_[gate["user"]]
    index = values if len(values) == len(levels) else np.arange(2, len(levels) + 2)
    name = encoder.field_names_[gate["user"]]
    gates = pd.DataFrame(
        levels / LEVELS, pd.Index(index, name=name), list(encoder.field_names_), dtype=float
    )
    return gates, gate["params"]


@torch.no_grad()
def update_gates(network, gates, loss, data, prior, n_sweeps):
    r"""Coordinate ascent of the gates' probabilities, all users at once; in place.

    Of user u and field i, with the other gates at their means,

    .. math:: \mathrm{logit}\, \pi_{ui} = \mathrm{logit}\, \pi_1
              + \sum_{n \in u} \left( \log p(y_n | s_{ui} = 1) - \log p(y_n | s_{ui} = 0) \right)

    Parameters
    ----------
    network : nn.Module
        Around ``gates``.
    gates : SampledGates
    loss : nn.Module
        Minus the log likelihood per row; of ratings half of it in units of the noise's variance,
        which the residuals tell.
    data : EncodedTensors
    prior : float in (0, 1)
    n_sweeps : int
    """
    users = data.ids[:, gates.user].long()
    counts = torch.bincount(users, minlength=len(gates.probabilities))
    mode = network.training
    network.eval()

    pairs = network.interaction
    if len(data) * len(pairs.left) <= MEMORY_CELLS:
        pairs.memory = []

    def losses(forced=None):
        gates.forced, rows = forced, []
        for pairs.batch, batch in enumerate(batches_of(data, PASS_ROWS)):
            rows.append(loss(network(**batch.inputs), batch.y))
        rows = torch.cat(rows).double()
        return rows if data.weight is None else rows * data.weight

    try:
        scale = 1.0
        if isinstance(loss, SquaredError):
            scale = 1 / (2 * losses().mean().clamp(min=1e-6))
        p = gates.probabilities
        for _ in range(n_sweeps):
            for field in range(p.shape[1]):
                if field == gates.user:
                    continue
                gain = scale * (losses((field, 0.0)) - losses((field, 1.0)))
                evidence = torch.zeros(len(p), dtype=gain.dtype, device=gain.device)
                evidence.index_add_(0, users, gain)
                odds = evidence + np.log(prior / (1 - prior))
                p[:, field] = torch.sigmoid(odds).to(p.dtype)
                # Who is not among the rows is like everyone in the mean.
                p[counts == 0, field] = p[counts > 0, field].mean()
    finally:
        gates.forced, gates.seen, pairs.memory = None, None, None
        network.train(mode)
