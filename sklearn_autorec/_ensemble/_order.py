"""Whether the order of the rows of a table means something, such as time, so that the last rows
judge better than any.
"""

import numpy as np

from ..feature_crossing._autocross._fieldwise import AdditiveModel, row_loss
from ._codes import FieldCodes

LEAST_ROWS = 2_000  # fewer cannot tell
MOST_ROWS = 20_000  # evenly spread ones are enough
TAIL = 0.1  # share of rows that is looked at
LEAST_Z = 2.5  # standard errors by which the last rows must be harder to predict than others
LABEL_SHIFT = 0.2  # of the mean target between the last rows and all, in its standard deviations
# Runs a value, below which a column is sorted or grouped rather than spread over time.
BLOCKED = 2.0
LEAST_VALUES = 20  # of a column that may be grouped


def order_matters(table, n_ids, y, logistic, rng):
    """Whether the last rows of a table are harder to predict from the others than rows drawn at
    random.

    So it is in a log that grows over time: values come and go. Not so where a column or the target
    is sorted: the last rows of such a table are of no use as judges, since the rows to come are not
    like them.

    Parameters
    ----------
    table : EncodedTable
    n_ids : list of int
        Of the categorical fields.
    y : float ndarray of shape (n_rows,)
        0/1, or numbers.
    logistic : bool
    rng : RandomState
        Draws the other rows.

    Returns
    -------
    bool
    """
    n = len(y)
    if n < LEAST_ROWS:
        return False
    if n > MOST_ROWS:
        rows = np.linspace(0, n - 1, MOST_ROWS).astype(np.int64)
        table, y, n = table.take(rows), y[rows], MOST_ROWS
    n_tail = int(TAIL * n)
    if abs(y[-n_tail:].mean() - y.mean()) > LABEL_SHIFT * y.std() or _grouped(table.ids):
        return False
    codes = FieldCodes.learned(table, n_ids)
    columns, unit = codes.columns(table), 1.0 if logistic else float(y.std()) or 1.0
    y = y if logistic else (y - y.mean()) / unit
    drawn = rng.permutation(n)
    last = _losses(columns, codes.sizes, y, np.arange(n), n_tail, logistic)
    others = _losses(columns, codes.sizes, y, drawn, n_tail, logistic)
    error = np.sqrt((last.var() + others.var()) / n_tail)
    return bool(last.mean() - others.mean() > LEAST_Z * error)


def _grouped(ids):
    """Whether the rows of each value of some column stand together."""
    for column in ids.T:
        n_values = len(np.unique(column))
        if n_values >= LEAST_VALUES and 2 * n_values < len(column):
            runs = 1 + int((column[1:] != column[:-1]).sum())
            if runs < BLOCKED * n_values:
                return True
    return False


def _losses(columns, sizes, y, order, n_out, logistic):
    """Losses of the last rows of an order by an additive model of the others, less those of their
    mean.
    """
    y, n_train = y[order], len(y) - n_out
    model = AdditiveModel(y, n_train, logistic)
    before = row_loss(y[n_train:], model.eta[n_train:], logistic)
    for column, size in zip(columns, sizes, strict=True):
        model = model.extended(column[order].astype(np.intp), size)
    model.fit(max_sweeps=10)
    return row_loss(y[n_train:], model.eta[n_train:], logistic) - before
