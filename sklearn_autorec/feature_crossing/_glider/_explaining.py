"""What a model answers to perturbed rows, and the interactions in these answers."""

from numbers import Integral

import numpy as np
from scipy.special import logit
from sklearn.base import is_regressor

from .._threads import one_thread
from ._nid import detect
from ._perturbing import perturbed

LEAST_PROBABILITY = 1e-5  # log odds of a tree that is sure would be infinite


def check_options(search):
    """Refuse parameters of a `GLIDER` that do not go together.

    Raises
    ------
    ValueError
        Names the parameter.
    """
    if not is_regressor(search.estimator) and not hasattr(search.estimator, "predict_proba"):
        raise ValueError(
            f"estimator must have predict_proba or be a regressor, got {search.estimator!r:.200}."
        )
    if search.detector == "gradient_nid" and search.max_order > 2:
        raise ValueError(
            f'max_order must be 2 with detector="gradient_nid", which finds pairs, got '
            f"{search.max_order!r}."
        )
    units = search.hidden_units
    if not units or not all(isinstance(n, Integral) and n > 0 for n in units):
        raise ValueError(f"hidden_units must hold one or more ints above 0, got {units!r}.")


def random_masks(n, n_masks, d, rng):
    """Masks (n, n_masks, d) of 0/1, uint8: the first keeps all; the others drop k inputs, k uniform
    in 1..d.
    """
    dropped = rng.integers(1, d + 1, size=(n, n_masks, 1))
    masks = (rng.random((n, n_masks, d)).argsort(-1).argsort(-1) >= dropped).astype(np.uint8)
    masks[:, 0] = 1
    return masks


def strengths_of(estimator, table, source, seed, groups, n_masks, detector, max_order, plan):
    """Interactions of the first rows of a table, one dict for each.

    Parameters
    ----------
    estimator : fitted estimator
    table : DataFrame or ndarray
    source : int ndarray of shape (n, n_columns)
        Row of the table from which a replaced cell of each of the n first rows comes, or `GONE`.
    seed : int
    groups : list of list of int
        Columns that are replaced together.
    n_masks : int
    detector, max_order, plan
        Of `detect`.
    """
    rng = np.random.default_rng(seed)
    n = len(source)
    masks = random_masks(n, n_masks, len(groups), rng)
    # Of equal masks of a row only one is asked for.
    keys = np.column_stack(
        [np.repeat(np.arange(n), n_masks), np.packbits(masks, axis=-1).reshape(n * n_masks, -1)]
    )
    _, first, back = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    back = back.ravel()
    row = keys[first, 0]
    cells = source[row]
    for k, group in enumerate(groups):
        kept = masks.reshape(-1, len(groups))[first, k] == 1
        cells[np.ix_(kept, group)] = row[kept][:, None]
    untouched = np.setdiff1d(np.arange(source.shape[1]), np.concatenate(groups))
    cells[:, untouched] = row[:, None]
    own = back.reshape(n, n_masks)[:, 0]  # the first mask keeps all
    answers = answers_of(estimator, perturbed(table, cells), own[row])[back].reshape(n, n_masks)
    with one_thread():
        return detect(masks, answers, detector, max_order, plan, seed)


def answers_of(estimator, X, own):
    """What the estimator says of each row, (n_rows,): log odds of the class likeliest for row
    ``own``, or the predicted number.
    """
    if is_regressor(estimator):
        return np.asarray(estimator.predict(X), dtype=np.float64).reshape(len(X))
    p = np.asarray(estimator.predict_proba(X), dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < 2:
        raise ValueError(
            f"estimator must tell two classes or more apart, got probabilities of shape {p.shape}."
        )
    label = np.ones(len(X), np.int64) if p.shape[1] == 2 else p[own].argmax(1)
    return logit(np.clip(p[np.arange(len(X)), label], LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))


def fitted_and_explained(y, validation_fraction, classifies, rng):
    """Rows to fit the estimator on, with one of each class at least, and the others, both in
    random order.
    """
    if len(y) < 2:
        raise ValueError(
            f"GLIDER needs two rows, one of them to explain, got n_samples = {len(y)}."
        )
    order = rng.permutation(len(y))
    if classifies:
        classes, first = np.unique(y[order], return_index=True)
        if len(classes) < 2:
            raise ValueError(
                f"y must have two classes or more, got {len(classes)} class(es) in {len(y)} "
                f"sample(s): "
                f"{classes.tolist()}."
            )
        order = np.concatenate([order[first], np.delete(order, first)])
    n = min(max(round(validation_fraction * len(y)), 1), len(y) - 1)
    return order[:-n], order[-n:]
