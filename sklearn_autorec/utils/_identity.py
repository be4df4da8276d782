"""What makes a search or a fit this one: a hash of its parameters and data that is the same in
every process.
"""

import functools
import sys
import sysconfig
from numbers import Number
from types import CodeType, FunctionType, MethodType, ModuleType

from joblib.hashing import NumpyHasher

_PACKAGE = __name__.partition(".")[0]
_CONSTANTS = (Number, str, bytes, type(None), type(Ellipsis))


class _Hasher(NumpyHasher):
    """joblib's hash of values, but functions and classes of the user count by what they do, not by
    name.

    A function counts by its code and that of the functions within it, its defaults, the variables
    it closes over, and the globals it reads: functions, classes and values. A class of the user
    counts by its methods and constants, and of the globals that its methods read by functions,
    classes and constants alone (classes keep logs and caches there). What is installed counts by
    name and code."""

    def __init__(self, seen=None):
        super().__init__(hash_name="md5")
        self.seen = {} if seen is None else seen  # id: (number, object), which ends recursion

    def save(self, obj):
        if isinstance(obj, MethodType):
            obj = ("method", obj.__func__, obj.__self__)
        elif isinstance(obj, FunctionType | type) or type(obj) is functools._lru_cache_wrapper:
            obj = self._once(obj)
        elif isinstance(obj, ModuleType):
            obj = ("module", obj.__name__)
        elif type(obj).__module__.startswith("torch") and hasattr(obj, "detach"):
            # A pickle of a tensor says where its numbers lie in this process.
            obj = ("tensor", obj.requires_grad, obj.detach().cpu().numpy())
        elif any(base.__module__.startswith("skorch") for base in type(obj).__mro__):
            # Its pickle holds its tensors as bytes that say where they lie.
            obj = ("net", type(obj), vars(obj))
        elif type(obj) is frozenset:  # in the order of its hashes, another one in every process
            obj = ("frozenset", set(obj))
        elif type(obj) is dict and not _sortable(obj):
            obj = ("dict", sorted((identity(key), value) for key, value in obj.items()))
        elif type(obj).__module__.startswith("scipy.stats") and hasattr(obj, "dist"):
            # A frozen distribution carries numpy's global generator with it.
            obj = ("distribution", type(obj).__name__, obj.dist.name, obj.args, obj.kwds)
        super().save(obj)

    def _once(self, obj):
        number, _ = self.seen.get(id(obj), (None, None))
        if number is not None:
            return ("seen", number)
        self.seen[id(obj)] = len(self.seen), obj
        if isinstance(obj, type):
            return self._class(obj)
        if isinstance(obj, FunctionType):
            return self._function(obj, tables=True)
        return ("cached", obj.__wrapped__)

    def _function(self, function, tables):
        cells = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
        parts = ["function", function.__module__, function.__qualname__, _text(function.__code__)]
        parts += [function.__defaults__, function.__kwdefaults__, cells]
        if not _installed(function.__module__):
            known = function.__globals__
            read = [
                (name, known[name]) for name in sorted(_names(function.__code__)) if name in known
            ]
            parts += [vars(function), [(name, self._global(value, tables)) for name, value in read]]
        return tuple(parts)

    def _class(self, cls):
        named = ["class", cls.__module__, cls.__qualname__]
        if _installed(cls.__module__):
            return tuple(named)
        members = []
        for name, value in sorted(vars(cls).items()):
            if isinstance(value, staticmethod | classmethod):
                value = value.__func__
            elif isinstance(value, functools.cached_property):
                value = value.func
            for part in (
                (value.fget, value.fset, value.fdel) if isinstance(value, property) else (value,)
            ):
                if isinstance(part, FunctionType):
                    members.append((name, self._function(part, tables=False)))
                elif isinstance(part, type) or (_constant(part) and not name.startswith("__")):
                    members.append((name, part))
        return (*named, cls.__bases__, members)

    def _global(self, value, tables):
        if isinstance(value, FunctionType | type | ModuleType) or _constant(value):
            return value
        if tables:
            try:
                return _Hasher(self.seen).hash(value)
            except Exception:  # a lock, an open file: nothing that could be compared
                pass
        return (type(value).__module__, type(value).__qualname__)


def _sortable(keys):
    try:
        sorted(keys)
    except TypeError:
        return False
    return True


def _filled(cell):
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _constant(value):
    if isinstance(value, tuple | frozenset):
        return all(map(_constant, value))
    return isinstance(value, _CONSTANTS)


def _text(code):
    """All that a code object does, as text: the constants of one process may be shared in other
    ways in the next.
    """
    constants = []
    for value in code.co_consts:
        if isinstance(value, CodeType):
            constants.append(_text(value))
        else:
            constants.append(
                repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)
            )
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return repr((code.co_name, code.co_code, constants, names, counts, code.co_exceptiontable))


def _names(code):
    names = set(code.co_names)
    for value in code.co_consts:
        if isinstance(value, CodeType):
            names |= _names(value)
    return names


@functools.lru_cache(maxsize=1024)
def _installed(module):
    """Whether a module comes with Python or a package, which users do not edit between two runs."""
    top = (module or "__main__").partition(".")[0]
    if top in sys.stdlib_module_names or top == _PACKAGE:
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    return bool(file) and file.startswith(
        (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    )


def identity(value):
    """Hash of a value that is the same in every process.

    Parameters
    ----------
    value : object
        What pickle knows, or functions, or scipy's frozen distributions.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        Something in it cannot be pickled.
    """
    try:
        return _Hasher().hash(value)
    except Exception as error:
        raise ValueError(f"a checkpoint needs parameters that can be pickled: {error}") from error
