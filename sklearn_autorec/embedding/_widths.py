"""What the methods that give each field a width share."""

from numbers import Integral

import numpy as np

from ..nn import budget_bytes, field_rows, table_bytes
from ..nn._budget import ELEMENT, vector_bytes
from ..nn._mixed import check_shared_widths


def check_candidates(candidates, embedding_dim):
    """Sorted distinct widths; refuses what does not lie between 0 and ``embedding_dim``.

    "auto" is 1, 2, 4, ... and ``embedding_dim``.
    """
    if isinstance(candidates, str):
        candidates = [
            *(2**k for k in range(embedding_dim.bit_length()) if 2**k < embedding_dim),
            embedding_dim,
        ]
    if not candidates or not all(
        isinstance(w, Integral) and 0 <= w <= embedding_dim for w in candidates
    ):
        raise ValueError(
            f"candidates must be whole numbers between 0 and embedding_dim={embedding_dim}, got "
            f"{candidates!r}."
        )
    return sorted({int(w) for w in candidates})


def check_widths(architecture, context):
    """Refuse an architecture whose widths do not fit the fields.

    Raises
    ------
    ValueError
    """
    widths, d = architecture.get("widths"), context.embedding_dim
    whole = isinstance(widths, list) and all(
        isinstance(w, int) and not isinstance(w, bool) for w in widths
    )
    if not whole or len(widths) != context.n_fields or not all(0 <= w <= d for w in widths):
        raise ValueError(
            f"widths must hold {context.n_fields} whole numbers between 0 and embedding_dim={d}, "
            f"got {widths!r:.200}."
        )
    check_shared_widths(widths, context)


def owners(context):
    """Positions of the fields with vectors of their own, which alone can choose a width: list."""
    return np.flatnonzero(field_rows(context)).tolist()


def with_width(widths, field, width, context):
    """The widths with that of one field, and of the lists that share its table, changed: list."""
    same = {field, *(f for f, owner in context.sharers if owner == field)}
    return [width if f in same else w for f, w in enumerate(widths)]


def mixed_bytes(widths, context):
    """Bytes of the `MixedEmbedding` of some widths in one member as it will be stored, scales of
    int8 and projections included.
    """
    d, distinct = context.embedding_dim, {w for w in widths if w < context.embedding_dim}
    tables = int(field_rows(context) @ vector_bytes(context, np.array(widths)))
    return tables + ELEMENT * d * sum(distinct)


def bytes_for_widths(budget, narrowest, context):
    """A budget as bytes, see `nn.budget_bytes`.

    Raises
    ------
    ValueError
        If not even the narrowest width fits.
    """
    limit = budget_bytes(budget, table_bytes(context))
    least = mixed_bytes([narrowest] * context.n_fields, context)
    if limit < least:
        raise ValueError(
            f"budget={budget!r} leaves {limit} bytes; with the width {narrowest} for every field "
            f"tables and projection take {least}."
        )
    return limit


def likeliest_within(log_p, candidates, limit, context):
    """Widths of high probability that fit.

    From the likeliest on, the field whose narrower width costs least log probability per byte takes
    it until all fit. Then what still fits and is likelier is taken, the largest gain first.

    Parameters
    ----------
    log_p : ndarray (F, N)
        Log probability of each candidate of each field.
    candidates : list of int, length N
    limit : int
        Bytes, enough for the first candidate everywhere.
    context : BuildContext

    Returns
    -------
    list of int, length F
    """
    rows, every = field_rows(context), range(len(candidates))
    chosen = log_p.argmax(1)
    widths = [candidates[n] for n in chosen]

    def price(move):
        f, n = move
        saved = rows[f] * (widths[f] - candidates[n])
        return (log_p[f, candidates.index(widths[f])] - log_p[f, n]) / saved

    while mixed_bytes(widths, context) > limit:
        moves = [(f, n) for f in owners(context) for n in every if candidates[n] < widths[f]]
        f, n = min(moves, key=price)
        widths = with_width(widths, f, candidates[n], context)
    while True:
        gains = []
        for f in owners(context):
            now = log_p[f, candidates.index(widths[f])]
            for n in every:
                new = with_width(widths, f, candidates[n], context)
                if log_p[f, n] > now and mixed_bytes(new, context) <= limit:
                    gains.append((log_p[f, n] - now, new))
        if not gains:
            return widths
        _, widths = max(gains, key=lambda gain: gain[0])
