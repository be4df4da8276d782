"""Evaluations that say which one they are, and a word on those that failed."""

import warnings
from traceback import format_exc

from sklearn.exceptions import FitFailedWarning

from ._evaluate import (
    transform_fold,
)


def _answer(evaluation, k, s, *arguments, **named):
    return k, s, evaluation(*arguments, **named)


def _fold_or_error(k, s, error_score, *arguments):
    try:
        return k, s, transform_fold(*arguments)
    except Exception:
        if error_score == "raise":
            raise
        return k, s, format_exc()


def warn_of(failed, n_fits, run):
    """Tell which of the fits of a batch have failed, and why the first one did."""
    named = {}
    for row, error in failed:
        named.setdefault(row, f"row {row} {run.rows[row].params}: {error.strip().splitlines()[-1]}")
    shown = list(named.values())[:5] + ([f"and {len(named) - 5} more"] if len(named) > 5 else [])
    warnings.warn(
        f"{len(failed)} of {n_fits} fits failed and score {run.search.error_score}; "
        f"error_score='raise' stops "
        "at the first. Candidates:\n" + "\n".join(shown) + f"\nThe first of them:\n{failed[0][1]}",
        FitFailedWarning,
        stacklevel=6,
    )
