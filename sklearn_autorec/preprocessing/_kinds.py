"""Whether whole numbers, and decimals of few values, are ids, numbers or both, by what they look
like.
"""

import warnings

import numpy as np
import pandas as pd

from ..exceptions import DoubtfulKindWarning
from ._columns import CATEGORICAL, NUMERIC
from ._values import numeric_values

BOTH = "both"
MIN_ROWS = 100  # present cells, below which the dtype decides
SAMPLED_ROWS = 50_000  # that are looked at, at equal distances
VERY_FEW_VALUES = 12  # integers of which a table of ids learns whatever a number would tell it
FEW_VALUES = 100  # an id table of so many costs nothing
MANY_VALUES = 1000  # for which it is worth saying that they may be no ids
MIN_REPEATS = 10  # rows a value must have on average for decimals to be ids as well
SPARSE = 0.01  # share of the whole numbers of a range that occur
UNEVEN = 0.3  # distance of distinct values from even ones, above which they may be no labels
TIMES_IN_SECONDS = (8e8, 2.2e9)  # 1995 to 2039
# Correlation of rows with values, below which the higher are the rarer.
FALLING, CLEARLY_FALLING = -0.5, -0.7


def choose_kinds(columns, kinds, names, weight=None):
    """`choose_kind` of each column; warns of those in doubt.

    Parameters
    ----------
    columns : list of Series or ndarray
    kinds : list of str
        By dtype.
    names : list
        As users call the columns: names, or positions where there are none.
    weight : ndarray of shape (n_rows,) or None
        Whole weights are repetitions of rows; others do not count.

    Returns
    -------
    kinds : list of str
    reasons : list of (str or None)
        Why; None where the dtype decided.

    Warns
    -----
    DoubtfulKindWarning
        Once, with the names of all columns of which it is doubtful what they are.
    """
    found = [_judged(column, kind, weight) for column, kind in zip(columns, kinds, strict=True)]
    doubtful = [name for name, (_, in_doubt, _) in zip(names, found, strict=True) if in_doubt]
    if doubtful:
        warnings.warn(
            f"Columns of whole numbers {doubtful} may be ids or numbers, and are taken as both. "
            f"Say what they are, such "
            f'as FieldEncoder(categorical_features={{{doubtful[0]!r}: "id"}}); the other columns '
            f"stay as they are.",
            DoubtfulKindWarning,
            stacklevel=2,
        )
    return [kind for kind, _, _ in found], [reason for _, _, reason in found]


def choose_kind(column, kind, weight=None):
    """The kind of a column, given the one by its dtype, and whether it is in doubt.

    With fewer than `MIN_ROWS` cells or three values the dtype decides. Integers of up to
    `VERY_FEW_VALUES` values are ids. Other whole numbers of up to `FEW_VALUES` values are both. Of
    more values (`evenness` has the measures):

    - *numbers*, where some are below zero; where no value comes twice, so that there is nothing to
      learn by id; where hardly any does and they lie far apart, as times do; and where they are
      uneven and mostly round, as amounts are;
    - *both*, where they are uneven and the higher the rarer, as counts and durations are: ids that
      were numbered by how frequent they are look no other;
    - *ids*, where they are even, as labels out of a range are. Floats, as which integers come where
      cells are missing, are both then;
    - both as well what is none of these, or may be times or hashed ids. It is in doubt if it has
      more than `MANY_VALUES` values.

    Decimals are both if they have up to `FEW_VALUES` values of `MIN_REPEATS` rows each or more, and
    numbers otherwise.

    Parameters
    ----------
    column : Series or ndarray of shape (n_rows,)
    kind : str
        "categorical", "numeric" or "sequence".
    weight : ndarray of shape (n_rows,) or None

    Returns
    -------
    kind : str
    in_doubt : bool
    """
    return _judged(column, kind, weight)[:2]


def _judged(column, kind, weight):
    """As `choose_kind`, and why: a text, or None where it is for what the dtype says."""
    found = _values_and_rows(column, kind, weight)
    if found is None:
        return kind, False, None
    values, counts = found
    n_rows, n_values = counts.sum(), len(values)
    if n_rows < MIN_ROWS or n_values < 3:
        what = "whole numbers" if kind == CATEGORICAL else "decimals"
        few = f"fewer than {MIN_ROWS} cells" if n_rows < MIN_ROWS else "up to two values"
        return kind, False, f"{what} by their type: {few}"
    repeats = n_rows / n_values
    if not (values == np.floor(values)).all():
        if n_values <= FEW_VALUES and repeats >= MIN_REPEATS:
            return BOTH, False, "decimals of few values, each of many rows"
        return NUMERIC, False, "decimals"
    if repeats == 1:
        return NUMERIC, False, "whole numbers, none of which comes twice"
    if n_values <= FEW_VALUES:
        few = kind == CATEGORICAL and n_values <= VERY_FEW_VALUES
        return CATEGORICAL if few else BOTH, False, f"whole numbers of {n_values} values"
    sparse = n_values < SPARSE * (values[-1] - values[0])
    distance, falling, round_share = evenness(values, counts)
    times = sparse and repeats < 1.2
    amounts = distance >= 0.4 and round_share >= 0.3
    if values[0] < 0 or times or amounts:
        like = "lying like times" if times else "lying like round amounts"
        like = "some of them negative" if values[0] < 0 else like
        return NUMERIC, False, f"whole numbers, {like}"
    if falling <= FALLING and distance >= UNEVEN or falling <= CLEARLY_FALLING and distance >= 0.2:
        return BOTH, False, "whole numbers, lying like counts"
    if distance >= UNEVEN or (sparse and repeats < 3):
        # Times are told as such, see `hint_at_columns`.
        in_doubt = n_values > MANY_VALUES and not (
            kind == CATEGORICAL and unit_of_times(values[0], values[-1])
        )
        return BOTH, in_doubt, "whole numbers that may be ids or numbers"
    even = "spread evenly over their range, as labels are"
    if kind == CATEGORICAL:
        return CATEGORICAL, False, f"whole numbers, {even}"
    return BOTH, False, f"whole numbers as floats, {even}"


def _values_and_rows(column, kind, weight):
    """Distinct numbers of a column, rising, float64, and their rows; None for booleans, times, text
    and sequences.
    """
    dtype = column.dtype
    if kind not in (CATEGORICAL, NUMERIC) or isinstance(dtype, pd.CategoricalDtype):
        return None
    step = -(-len(column) // SAMPLED_ROWS)
    if step > 1:
        column = column.iloc[::step] if isinstance(column, pd.Series) else column[::step]
        weight = None if weight is None else weight[::step]
    if not isinstance(dtype, np.dtype):
        numbers = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    elif dtype.kind == "O":
        inferred = pd.api.types.infer_dtype(np.asarray(column), skipna=True)
        numbers = inferred in ("integer", "floating", "mixed-integer-float")
    else:
        numbers = dtype.kind in "iuf"
    if not numbers:
        return None
    try:
        values, _ = numeric_values(column, "")
    except (TypeError, ValueError, OverflowError):  # told by name where the column is read
        return None
    present = ~np.isnan(values)
    if weight is None or (weight != np.floor(weight)).any():
        return np.unique(values[present], return_counts=True)
    values, where = np.unique(values[present], return_inverse=True)
    return values, np.bincount(where, weight[present], len(values))


def unit_of_times(lowest, highest):
    """Unit in which whole numbers lie like times since 1970: "s", "ms", "us" or "ns"; None if they
    do not.
    """
    low, high = TIMES_IN_SECONDS
    for unit, factor in {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.items():
        if lowest >= low * factor and highest < high * factor:
            return unit
    return None


def evenness(values, counts):
    """How distinct whole numbers (n_distinct,), rising, and their rows lie.

    Returns
    -------
    distance : float
        Largest distance between the share of distinct values up to a value and its place in their
        range: 0 where they are even, towards 1 where most are small and some very large.
    falling : float
        Rank correlation of rows with values; -1: the higher the rarer.
    round_share : float
        Share of the rows with multiples of ten, among those from 100 on.
    """
    places = (values - values[0]) / (values[-1] - values[0])
    distance = float(np.abs(places - (np.arange(len(values)) + 0.5) / len(values)).max())
    ranks = pd.Series(counts).rank().to_numpy()
    spread = ranks.std()
    falling = float(np.corrcoef(ranks, np.arange(len(values)))[0, 1]) if spread > 0 else 0.0
    large = counts * (values >= 100)
    total = large.sum()
    return distance, falling, float(large[values % 10 == 0].sum() / total) if total else 0.0
