"""Constructors that store what they are given."""

import functools
import inspect
from typing import Any, cast

from ._typing import Method

__all__ = ["stores_parameters"]


def stores_parameters(init: Method) -> Method:
    """Decorate a constructor which does nothing but store: every argument, given or default,
    becomes the attribute of its name.

    Classes of many parameters use it in place of a line for each, and of handing them on to the
    constructor of a base one by one. scikit-learn reads the signature as ever.

    Examples
    --------
    >>> class Search:
    ...     @stores_parameters
    ...     def __init__(self, model, *, n_iter=50):
    ...         "Store the parameters."
    >>> vars(Search("fm"))
    {'model': 'fm', 'n_iter': 50}
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def store(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)  # which refuses what it does not know, by its own name
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        for name, value in list(bound.arguments.items())[1:]:
            setattr(self, name, value)

    return cast(Method, store)
