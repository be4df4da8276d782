"""How the methods of this folder take a budget of bytes."""

from numbers import Integral, Real

from ..utils._sklearn import Interval

# A float is a share of the whole tables, an int a number of bytes; see `nn.budget_bytes`.
BUDGET = [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="right")]


def one_given(method, first, second):
    """Refuse two parameters of which each says how much is left.

    Raises
    ------
    ValueError
        If neither is None.
    """
    one, other = getattr(method, first), getattr(method, second)
    if one is not None and other is not None:
        raise ValueError(
            f"{type(method).__name__} takes {first} or {second}, not both, got {first}={one!r} and "
            f"{second}={other!r}; set one of them to None."
        )
