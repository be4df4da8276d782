"""Fitted state as one value: fits that fail change nothing, and readers see one fit, never parts of
two.
"""

import functools
from typing import Any, cast

from ._typing import Method

__all__ = ["all_or_nothing", "reads_once", "snapshot"]


def snapshot(estimator: Any) -> Any:
    """The estimator as it is now: a twin with its attributes, which does not see a later fit.

    It shares the dict of attributes and copies nothing. Fits replace that dict as a whole (see
    `all_or_nothing`), so that the twin goes on reading the old one."""
    twin = object.__new__(type(estimator))
    twin.__dict__ = estimator.__dict__
    return twin


def reads_once(method: Method) -> Method:
    """Decorate a method that reads fitted attributes: all it reads are of one fit, also while
    another thread fits.
    """

    @functools.wraps(method)
    def consistent(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(snapshot(self), *args, **kwargs)

    return cast(Method, consistent)


def all_or_nothing(fit: Method) -> Method:
    """Decorate a method that fits: what it sets appears at once when it succeeds, and not at all
    when it raises.

    The method runs on a twin with attributes of its own, which replace those of the estimator in
    one assignment. It must not change in place what the estimator already holds."""

    @functools.wraps(fit)
    def whole(self: Any, *args: Any, **kwargs: Any) -> Any:
        draft = object.__new__(type(self))
        draft.__dict__ = dict(vars(self))
        result = fit(draft, *args, **kwargs)
        self.__dict__ = draft.__dict__
        return self if result is draft else result

    return cast(Method, whole)
