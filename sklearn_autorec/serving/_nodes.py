"""Python values to JSON nodes and back. Numbers, strings, lists, booleans and None stand for
themselves.

Everything else is an object with the key "kind", one of those that `Reader` has a method for; what
a kind may hold is checked there."""

import math
import re
from itertools import accumulate, pairwise

import numpy as np
import pandas as pd
import torch

from ..exceptions import ModelFileError
from ._collisions import check_keys
from ._container import DTYPES

MAX_DEPTH = 60
# Characters of an array of strings of fixed width, beyond which the width is the longest string's.
MAX_PADDED = 2**18
PADDING = 16  # and must not make more than so many of each character that is there
MAX_PLACE = 300  # characters of a place for messages
MAX_KEY = 60
TYPES = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "object": object,
    **{
        f"numpy.{t.__name__}": t
        for t in (np.number, np.integer, np.floating, np.bool_, np.object_, np.str_)
    },
    **{f"numpy.{dtype.type.__name__}": dtype.type for dtype in DTYPES.values()},
}
_TYPE_NAMES = {cls: name for name, cls in TYPES.items()}
_DTYPE = re.compile(r"[<|]([iuf][1248]|b1|O|U[0-9]{1,6})")


class Weights:
    """Marks an array of network weights: read without a copy, since it is copied into the network
    anyway.
    """

    def __init__(self, array):
        self.array = array


class Writer:
    """Collects arrays while it turns values into nodes.

    Parameters
    ----------
    registry : Registry
        Knows the classes that may be saved.
    """

    def __init__(self, registry):
        self.registry = registry
        self.arrays = []

    def node(self, value, where):
        """The JSON node of a value; ``where`` names its place for messages."""
        if value is None or type(value) in (bool, str):
            return value
        if type(value) is int:
            if not -(2**63) <= value < 2**64:
                raise TypeError(f"{where} is {value:.3g}, an integer too large to be saved.")
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"kind": "float", "value": repr(value)}
        if type(value) is list:
            # Steps of a pipeline go by their names.
            labels = [
                v[0] if type(v) is tuple and v and type(v[0]) is str else i
                for i, v in enumerate(value)
            ]
            return [self.node(v, at(where, label)) for label, v in zip(labels, value, strict=True)]
        return self._special(value, where)

    def _special(self, value, where):
        if type(value) in (tuple, set, frozenset):
            items = list(value) if isinstance(value, tuple) else sorted(value)
            return {"kind": type(value).__name__, "items": self.node(items, where)}
        if type(value) is dict:
            items = [
                [self.node(k, f"a key of {where}"), self.node(v, at(where, k))]
                for k, v in value.items()
            ]
            return {"kind": "dict", "items": items}
        if isinstance(value, Weights):
            return {"kind": "weights", "index": self._add(value.array)}
        if isinstance(value, np.ndarray):
            return self._array(value, where)
        if isinstance(value, np.generic):
            return {"kind": "scalar", "array": self._array(np.asarray(value), where)}
        if isinstance(value, np.dtype) and _DTYPE.fullmatch(value.str):
            return {"kind": "dtype", "value": value.str}
        if isinstance(value, type) and value in _TYPE_NAMES:
            return {"kind": "type", "value": _TYPE_NAMES[value]}
        if isinstance(value, slice):
            return {
                "kind": "slice",
                "items": self.node([value.start, value.stop, value.step], where),
            }
        if isinstance(value, torch.device):
            return {"kind": "device", "value": str(value)}
        if value is pd.NA:
            return {"kind": "NA"}
        if isinstance(value, np.random.RandomState):
            return {"kind": "random_state", "items": self.node(list(value.get_state()), where)}
        return {"kind": "object", **self.registry.describe(value, self, where)}

    def _array(self, array, where):
        if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
            return {"kind": "array", "index": self._add(array)}
        if array.dtype.kind in "OU":
            words = array.ravel().tolist()
            if all(type(word) is str for word in words):
                text, lengths = _join(words)
                node = {"kind": "strings", "shape": list(array.shape), "text": self._add(text)}
                return {**node, "lengths": self._add(lengths), "dtype": array.dtype.str}
            return {"kind": "objects", "shape": list(array.shape), "items": self.node(words, where)}
        raise TypeError(
            f"{where} is an array of dtype {array.dtype}; numbers, booleans and strings can be "
            f"saved."
        )

    def _add(self, array):
        self.arrays.append(
            np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        )
        return len(self.arrays) - 1


def _join(words):
    """Strings as UTF-8 bytes, uint8, and their lengths in characters in the narrowest dtype."""
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    text = np.frombuffer("".join(words).encode("utf-8", "surrogatepass"), np.uint8)
    return text, lengths.astype(np.min_scalar_type(int(lengths.max(initial=0))))


def at(where, key):
    """The place of an item, for messages; shortened, since every item of a long list has one."""
    return where if len(where) > MAX_PLACE else f"{where}[{repr(key)[:MAX_KEY]}]"


def refuse(where, wanted, got):
    """Raise for a value in the file that is not what it must be."""
    text = repr(got)
    raise ModelFileError(
        f"{where} must be {wanted}, got {text if len(text) < 100 else text[:97] + '...'}."
    )


class Reader:
    """Turns the nodes of a file into values; every array must be used exactly once.

    Parameters
    ----------
    registry : Registry
    arrays : list of ndarray
    allow_nonfinite : bool
        Whether network weights may be NaN or infinite.
    """

    def __init__(self, registry, arrays, allow_nonfinite):
        self.registry = registry
        self.allow_nonfinite = allow_nonfinite
        self._arrays = list(arrays)
        self._depth = 0

    def value(self, node, where):
        """The value of a node; ``where`` names its place for messages."""
        if node is None or isinstance(node, bool | int | float | str):
            return node
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ModelFileError(f"The header is nested deeper than {MAX_DEPTH} levels.")
        if isinstance(node, list):
            found = node  # changed in place: nobody else has the header
            for i, v in enumerate(node):
                node[i] = self.value(v, at(where, i))
        else:
            kind = node.get("kind")
            if kind not in _READ:
                refuse(f"The kind of {where}", f"one of {sorted(_READ)}", kind)
            names, read = _READ[kind]
            if set(node) != {"kind", *names}:
                refuse(where, f"a node of kind {kind!r} with the keys {list(names)}", sorted(node))
            found = read(self, *(node[name] for name in names), where)
        self._depth -= 1
        return found

    def finish(self):
        """Refuse arrays that nothing refers to."""
        left = sum(array is not None for array in self._arrays)
        if left:
            raise ModelFileError(f"The file has {left} arrays that belong to nothing.")

    def items(self, node, where):
        """The values of a node that must be a list."""
        if not isinstance(node, list):
            refuse(where, "a list", node)
        return self.value(node, where)

    def _view(self, index, where):
        if type(index) is not int or not 0 <= index < len(self._arrays):
            refuse(where, f"the number of one of the {len(self._arrays)} arrays", index)
        array, self._arrays[index] = self._arrays[index], None
        if array is None:
            raise ModelFileError(f"{where} refers to array {index}, which has been used before.")
        return array

    def _array(self, index, where):
        return self._view(index, where).copy()

    def _strings(self, shape, text, lengths, dtype, where):
        words, lengths = self._view(text, where), self._view(lengths, where)
        if (
            words.dtype != np.uint8
            or words.ndim != 1
            or lengths.dtype.kind != "u"
            or lengths.ndim != 1
        ):
            raise ModelFileError(
                f"{where}: strings must be stored as uint8 text and unsigned lengths."
            )
        try:
            words = words.tobytes().decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise ModelFileError(f"{where} is not UTF-8: {error}") from error
        if int(lengths.sum(dtype=np.float64)) != len(words):
            raise ModelFileError(
                f"{where}: the lengths of its strings do not add up to those of its text."
            )
        ends = accumulate(lengths.tolist(), initial=0)
        flat = np.fromiter((words[a:b] for a, b in pairwise(ends)), object, len(lengths))
        found = _reshape(flat, shape, where)
        if dtype == "|O":
            return found
        width = int(lengths.max(initial=1))
        if (
            not isinstance(dtype, str)
            or not re.fullmatch(r"<U[0-9]{1,6}", dtype)
            or width > max(int(dtype[2:]), 1)
        ):
            refuse(f"The dtype of {where}", f"'|O' or '<U{width}'", dtype)
        # A wider dtype than needed costs its width for every string.
        declared = max(int(dtype[2:]), 1)
        if declared * len(flat) < MAX_PADDED:
            return found.astype(f"<U{declared}")
        if width * len(flat) > max(MAX_PADDED, PADDING * len(words)):
            refuse(
                where,
                "an array of dtype object, since its longest string makes all others too wide",
                dtype,
            )
        return found.astype(f"<U{width}")

    def _objects(self, shape, items, where):
        items = self.items(items, where)
        if not all(
            v is None or isinstance(v, bool | int | float | str | np.generic) for v in items
        ):
            raise ModelFileError(f"{where} must hold single values.")
        # pandas and scikit-learn look for the one nan object in places
        return _reshape(
            np.fromiter((np.nan if v != v else v for v in items), object, len(items)), shape, where
        )

    def _scalar(self, node, where):
        found = self.value(node, where)
        if not isinstance(found, np.ndarray) or found.ndim or found.dtype == object:
            refuse(where, "an array of no dimensions", found)
        return found[()]

    def _dict(self, items, where):
        if not isinstance(items, list) or not all(
            isinstance(pair, list) and len(pair) == 2 for pair in items
        ):
            refuse(where, "a list of pairs", items)
        for pair in items:
            pair[0] = self.value(pair[0], f"a key of {where}")
        check_keys([key for key, _ in items], where)
        found = {}
        for key, node in items:
            if key in found:
                raise ModelFileError(f"{where} has the key {key!r:.100} twice.")
            found[key] = self.value(node, at(where, key))
        return found

    def _set(self, cls, items, where):
        items = self.items(items, where)
        check_keys(items, where)
        return cls(items)

    def _named(self, table, value, where):
        if not isinstance(value, str) or value not in table:
            refuse(where, f"one of {sorted(table)}", value)
        return table[value]

    def _dtype(self, value, where):
        if not isinstance(value, str) or not _DTYPE.fullmatch(value):
            refuse(where, "the name of a dtype", value)
        return np.dtype(value)

    def _slice(self, items, where):
        items = self.items(items, where)
        if len(items) != 3 or not all(v is None or isinstance(v, int | str) for v in items):
            refuse(where, "start, stop and step of a slice", items)
        return slice(*items)

    def _device(self, value, where):
        if not isinstance(value, str) or not re.fullmatch(r"[a-z]{1,10}(:[0-9]{1,3})?", value):
            refuse(where, "the name of a device", value)
        return torch.device(value)

    def _random_state(self, items, where):
        items = self.items(items, where)
        name, key, position, has_gauss, gauss = items if len(items) == 5 else (None,) * 5
        good = (
            name == "MT19937"
            and isinstance(key, np.ndarray)
            and key.dtype == np.uint32
            and key.shape == (624,)
        )
        if (
            not good
            or type(position) is not int
            or not 0 <= position <= 624
            or has_gauss not in (0, 1)
        ):
            refuse(where, "the state of a RandomState", items)
        state = np.random.RandomState(0)
        state.set_state((name, key, position, int(has_gauss), float(gauss)))
        return state


def _reshape(flat, shape, where):
    if (
        not isinstance(shape, list)
        or not all(type(n) is int and n >= 0 for n in shape)
        or math.prod(shape) != len(flat)
    ):
        refuse(f"The shape of {where}", f"sizes whose product is {len(flat)}", shape)
    return flat.reshape(shape)


_READ = {
    "tuple": (("items",), lambda reader, items, where: tuple(reader.items(items, where))),
    "set": (("items",), lambda reader, items, where: reader._set(set, items, where)),
    "frozenset": (("items",), lambda reader, items, where: reader._set(frozenset, items, where)),
    "dict": (("items",), Reader._dict),
    "weights": (("index",), Reader._view),
    "array": (("index",), Reader._array),
    "strings": (("shape", "text", "lengths", "dtype"), Reader._strings),
    "objects": (("shape", "items"), Reader._objects),
    "scalar": (("array",), Reader._scalar),
    "float": (
        ("value",),
        lambda reader, value, where: reader._named(
            {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}, value, where
        ),
    ),
    "dtype": (("value",), Reader._dtype),
    "type": (("value",), lambda reader, value, where: reader._named(TYPES, value, where)),
    "slice": (("items",), Reader._slice),
    "device": (("value",), Reader._device),
    "NA": ((), lambda reader, where: pd.NA),
    "random_state": (("items",), Reader._random_state),
    "object": (
        ("class", "output", "params", "state"),
        lambda reader, name, output, params, state, where: reader.registry.rebuild(
            name, output, params, state, reader, where
        ),
    ),
}
