"""Networks and methods as plain values."""

import copy

import numpy as np

from .._registry import public_name


def describe(component, kind):
    """A network or method as plain values: its class's public name under ``kind``, its
    parameters but for those that are ``fit_only``.
    """
    left_out = getattr(component, "fit_only", ())
    params = {
        name: _plain(value)
        for name, value in component.get_params(False).items()
        if name not in left_out
    }
    return {kind: public_name(type(component)), "params": params}


def without_fit_only(method):
    """A method as a fitted estimator stores it: a copy without what only its search reads."""
    if not getattr(method, "fit_only", ()):
        return method
    stored = copy.copy(method)
    stored.__dict__.update(dict.fromkeys(method.fit_only))
    return stored


def _plain(value):
    """Parameters as JSON has them: tuples as lists, numpy numbers as Python's."""
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
