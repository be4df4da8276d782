"""What an axis of a weight holds of every field, declared where the weight is made.

A network on some of the fields takes over those elements of the weights that belong to them. Which
these are cannot be read off shapes: 36 may be 6 * 6 fields, 9 embeddings of 4, or hidden units.
"""

import math

__all__ = ["FieldAxis"]

VALUES, NUMBERS, LISTS, FIELDS = "V", "N", "L", "F"
VECTORS, VECTOR_INPUTS = "D", "W"  # beside "P", "P3" ...; see `tuple_order`


def tuple_order(factor):
    """k of the factor "Pk" (2 of "P"): all tuples of k different fields. None of another factor."""
    if factor == "P":
        return 2
    return int(factor[1:]) if factor[:1] == "P" and factor[1:].isdecimal() else None


class FieldAxis(int):
    """The length of an axis: an int that also knows which of its elements belong to which fields.

    Made by `BuildContext.axis`. The layers of this package take it for the number of their inputs
    or outputs and then declare their weights (``field_axes``). The sum of two lengths is the length
    of the two side by side; what other arithmetic gives is a plain int.

    Parameters
    ----------
    length : int
    runs : tuple of tuple of (int or str)
        Parts of the axis, one behind the other. Each is a product of factors, of which the last
        runs fastest: ("F", 4) is four numbers a field, ("F", "F") one for every two fields in both
        orders, (7,) seven that belong to no field. "F" stands for fields, "P" for pairs of fields i
        < j as `pair_index` has them, "P3" for triples and so on, "V" for the rows of tables (values
        of categorical, then of sequence fields with tables of their own), "N" for numeric, "L" for
        sequence and "D" for (dense) vector fields, "W" for the numbers of the latter and their
        missing indicators.
    """

    runs: tuple

    def __new__(cls, length, runs):
        axis = super().__new__(cls, length)
        axis.runs = tuple(tuple(run) for run in runs)
        return axis

    @classmethod
    def of(cls, context, *factors):
        """The axis of one product of factors; see `BuildContext.axis`."""
        sizes = [f if isinstance(f, int) else count(f, context) for f in factors]
        return cls(math.prod(sizes), [factors])

    def __getnewargs__(self):
        return int(self), self.runs

    def __add__(self, other):
        if not isinstance(other, int):
            return NotImplemented
        return FieldAxis(int(self) + int(other), [*self.runs, *runs_of(other)])

    def __radd__(self, other):
        if not isinstance(other, int):
            return NotImplemented
        return FieldAxis(int(other) + int(self), [*runs_of(other), *self.runs])

    def describe(self):
        """The layout as text, such as "F*4 + P + 7"."""
        return " + ".join("*".join(map(str, run)) for run in self.runs)


def runs_of(length):
    """Runs of a length; a plain int is one that belongs to no field."""
    return length.runs if isinstance(length, FieldAxis) else ((length,),) if length else ()


def count(factor, context):
    """How many there are of what a factor stands for."""
    order = tuple_order(factor)
    if order is not None:
        return math.comb(context.n_fields, order)
    if factor == FIELDS:
        return context.n_fields
    if factor == NUMBERS:
        return context.n_numeric
    if factor == LISTS:
        return len(context.sequences)
    if factor == VECTORS:
        return len(context.vectors)
    if factor == VECTOR_INPUTS:
        return sum(length + 1 for length in context.vectors)
    if factor == VALUES:
        return context.n_rows
    raise ValueError(
        f"a factor of an axis must be an int, 'F', 'P', 'P3', ..., 'V', 'N', 'L', 'D' or 'W', got "
        f"{factor!r}."
    )


def layer_axes(n_in, n_out=None):
    """``field_axes`` of a linear layer, weight (..., n_out, n_in) and bias (..., n_out)."""
    read = {-1: n_in} if isinstance(n_in, FieldAxis) else {}
    written = n_out if isinstance(n_out, FieldAxis) else None
    axes = {"weight": read if written is None else {**read, -2: written}}
    if written is not None:
        axes["bias"] = {-1: written}
    return {name: dims for name, dims in axes.items() if dims}
