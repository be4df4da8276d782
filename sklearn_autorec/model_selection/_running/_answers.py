"""Evaluations that say which one they are."""

from traceback import format_exc

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
