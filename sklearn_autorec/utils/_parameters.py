"""Constructors that store what they are given."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

from ._typing import Method

__all__ = ["stores_own_and_common", "stores_parameters"]


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
    return _storing(init, inspect.signature(init))


def stores_own_and_common(base: type) -> Callable[[Method], Method]:
    """Decorate a constructor that stores its own parameters and the keyword parameters of a base.

    It names its own, and ends with ``**common: Unpack[Options]``, where ``Options`` is a
    ``TypedDict`` of the names in common, so that type checkers know them. scikit-learn and
    ``help`` read one signature, in which the parameters of the base follow, with its defaults. What
    the constructor names itself is its own.

    Parameters
    ----------
    base : type
        Whose constructor has all parameters in common as keyword-only parameters.

    Examples
    --------
    >>> class Search:
    ...     @stores_parameters
    ...     def __init__(self, model, *, cv=5, verbose=0):
    ...         "Store the parameters."
    >>> class Random(Search):
    ...     @stores_own_and_common(Search)
    ...     def __init__(self, model, *, n_iter=50, **common):
    ...         "Store the parameters."
    >>> print(inspect.signature(Random))
    (model, *, n_iter=50, cv=5, verbose=0)
    """
    keywords = [
        parameter
        for parameter in inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]

    def decorate(init: Method) -> Method:
        signature = inspect.signature(init)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        common = [p for p in keywords if p.name not in signature.parameters]
        return _storing(init, signature.replace(parameters=[*own, *common]))

    return decorate


def _storing(init: Method, signature: inspect.Signature) -> Method:
    @functools.wraps(init)
    def store(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)  # which refuses what it does not know, by its own name
        if unknown := kwargs.keys() - signature.parameters.keys():
            raise TypeError(
                f"{init.__qualname__}() got an unexpected keyword argument {min(unknown)!r}"
            )
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        for name, value in list(bound.arguments.items())[1:]:
            setattr(self, name, value)

    store.__signature__ = signature  # type: ignore[attr-defined]
    return cast(Method, store)
