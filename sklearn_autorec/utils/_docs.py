"""Entries of docstrings that several classes or functions have in common, written once."""

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["inherits_entries", "takes_entries"]

Class = TypeVar("Class", bound=type)
Documented = TypeVar("Documented")

# What estimators of all parts say alike.
COMMON = """
n_features_in_ : int
    Columns seen in ``fit``.
feature_names_in_ : ndarray of shape (``n_features_in_``,)
    Their names, where they all are strings.
"""
HEAD = re.compile(r"\w+(?:, \w+)*(?P<described> : .+)?")
REQUEST = re.compile(r"^(?P<indent> *)\{(?P<wanted>\w+(?:(?:, | to )\w+)*)\}$", re.MULTILINE)


def inherits_entries(cls: Class) -> Class:
    """Decorate a class whose docstring takes entries from the docstrings of its bases.

    A line ``{lr}`` becomes the entry "lr : float ..." with its text, ``{lr, verbose}`` two of them,
    and ``{lr to verbose}`` all from the one to the other, in the order of the base. The nearest
    base that has an entry counts; entries of `COMMON` need none.

    Parameters
    ----------
    cls : type

    Returns
    -------
    type
        The same class, with its whole docstring.

    Raises
    ------
    ValueError
        If an entry is asked for that nobody has.
    """
    _fill(cls, cls.__mro__[1:])
    return cls


def takes_entries(*sources: Any) -> Callable[[Documented], Documented]:
    """Decorate a function, or a class, whose docstring takes entries from docstrings of others.

    Entries are asked for as in those of `inherits_entries`; the first source that has one counts.

    Parameters
    ----------
    *sources : functions or classes

    Returns
    -------
    callable
        Which gives the function back, with its whole docstring.

    Raises
    ------
    ValueError
        If an entry is asked for that nobody has.

    Examples
    --------
    >>> def add(a, b):
    ...     '''Add.
    ...
    ...     Parameters
    ...     ----------
    ...     a, b : int
    ...     '''
    >>> @takes_entries(add)
    ... def multiply(a, b):
    ...     '''{a}'''
    >>> multiply.__doc__
    'a, b : int'
    """

    def fill(documented: Documented) -> Documented:
        _fill(documented, sources)
        return documented

    return fill


def _fill(documented: Any, sources: tuple[Any, ...]) -> None:
    """Put into a docstring what its requests stand for, out of the first source that has it."""
    if documented.__doc__ is None:  # as it is under ``python -OO``
        return
    texts = [*(source.__doc__ for source in sources if source.__doc__), COMMON]
    entries = [entries_of(text) for text in texts]
    documented.__doc__ = REQUEST.sub(
        lambda request: _found(request, entries, documented.__name__), documented.__doc__
    )


def _found(request: re.Match[str], sources: list[dict[str, str]], asking: str) -> str:
    """The entries that a line asks for, as far to the right as that line."""
    texts = []
    for part in request["wanted"].split(", "):
        first, _, last = part.partition(" to ")
        last = last or first
        source = next((s for s in sources if first in s and last in s), None)
        if source is None:
            raise ValueError(f"The docstring of {asking} asks for {part!r}, which nobody has.")
        names = list(source)
        texts += [source[n] for n in names[names.index(first) : names.index(last) + 1]]
    lines = "\n".join(texts).split("\n")
    return "\n".join(request["indent"] + line if line else "" for line in lines)


def entries_of(docstring: str) -> dict[str, str]:
    """Entries of the sections of a docstring: dict of text by (first) name.

    Examples
    --------
    >>> entries_of('''Train.
    ...
    ...     Parameters
    ...     ----------
    ...     lr, l2 : float
    ...         Learning rate and decay.
    ...     verbose : int
    ...     ''')
    {'lr': 'lr, l2 : float\\n    Learning rate and decay.', 'verbose': 'verbose : int'}
    """
    lines = inspect.cleandoc(docstring).split("\n")
    entries: dict[str, str] = {}
    name = None
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        head = HEAD.fullmatch(line)
        if head and (head["described"] or following.startswith("  ")):
            name = line.partition(" : ")[0].partition(",")[0]
            entries[name] = line
        elif name is not None and (not line or line.startswith(" ")):
            entries[name] += "\n" + line
        else:
            name = None
    return {name: text.rstrip("\n") for name, text in entries.items()}
