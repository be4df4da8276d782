"""Tables in float16, int8 or codes in model files: beside their arrays stands which rows are of
which kind.
"""

import math

import numpy as np

from ..nn import QuantizedTable
from ..nn._product import MOST_CENTROIDS, ProductRows, n_parts
from ..nn._storing import places_of_tables, put_stored, stored_tables_of
from ._nodes import refuse

__all__ = [
    "bytes_of_tables",
    "check_codes",
    "check_stored",
    "described_storage",
    "put_in_storage",
    "with_empty_tables",
]

_KINDS = {"codes": ("pq", "int8", "float16", "float32"), "scales": ("float16", "one")}
_KEYS = {"shape", *_KINDS}


def described_storage(module):
    """The tables of a network that are stored in fewer bytes, dict of their names to dicts of
    "shape" and of the runs "codes" and "scales", as `QuantizedTable` takes them; and of "books"
    where there are codes of centroids.
    """
    return {name: table.describe() for name, table in stored_tables_of(module).items()}


def check_stored(stored, weights):
    """What a file says of its stored tables; whether there are such tables is seen later.

    No table may be larger than the arrays of the file that belong to it.

    Parameters
    ----------
    stored : object
        As the file has it.
    weights : dict of str to ndarray

    Returns
    -------
    dict of str to dict
    """
    if not isinstance(stored, dict):
        refuse("stored", "a dict by table", stored)
    for name, entry in stored.items():
        where = f"stored[{name!r}]"
        if not isinstance(entry, dict) or entry.keys() - {"books"} != _KEYS:
            refuse(where, f"a dict of {sorted(_KEYS)}", entry)
        shape = entry["shape"]
        whole = isinstance(shape, list) and shape and all(type(n) is int and n > 0 for n in shape)
        there = _numbers_there(name, shape, weights) if whole else 0
        if not whole or math.prod(shape) != there:
            refuse(f"{where}: shape", f"a list of sizes of {there} numbers", shape)
        for key, kinds in _KINDS.items():
            runs = entry[key]
            if not isinstance(runs, list) or not all(_is_run(run, kinds) for run in runs):
                refuse(f"{where}: {key}", f"a list of pairs of one of {kinds} and a number", runs)
        n_rows = math.prod(shape[:-1]) if len(shape) > 1 else shape[0]
        if sum(n for _, n in entry["codes"]) != n_rows:
            refuse(f"{where}: codes", f"kinds of {n_rows} rows", entry["codes"])
        if bool(entry["scales"]) != any(kind == "int8" for kind, _ in entry["codes"]):
            refuse(f"{where}: scales", "kinds where rows are int8, and only there", entry["scales"])
        _check_books(entry, where)
    return stored


def _numbers_there(name, shape, weights):
    """Numbers that the arrays of a file hold of a table, a code standing for some."""
    own = {
        n.removeprefix(f"{name}.codes."): a
        for n, a in weights.items()
        if n.startswith(f"{name}.codes.")
    }
    codes, _ = own.pop("pq.codes", None), own.pop("pq.centroids", None)
    there = sum(a.size for a in own.values())
    if codes is None:
        return there
    if codes.ndim != 2 or len(shape) < 2 or codes.shape[1] != n_parts(shape[-1]):
        return -1
    return there + len(codes) * shape[-1]


def _check_books(entry, where):
    """Refuse books that are not those of the rows of kind "pq"."""
    books = entry.get("books", [])
    good = isinstance(books, list) and all(
        isinstance(book, list)
        and len(book) == 2
        and all(type(n) is int for n in book)
        and 0 < book[0] <= min(book[1], MOST_CENTROIDS)
        for book in books
    )
    n_rows = sum(n for kind, n in entry["codes"] if kind == "pq")
    if not good or sum(n for _, n in books) != n_rows or (n_rows and len(entry["shape"]) < 2):
        told = f"pairs of at most {MOST_CENTROIDS} centroids and rows, {n_rows} in all"
        refuse(f"{where}: books", told, books)


def _is_run(run, kinds):
    return (
        isinstance(run, list)
        and len(run) == 2
        and run[0] in kinds
        and type(run[1]) is int
        and 0 < run[1] < 2**53
    )


def bytes_of_tables(stored):
    """Bytes of the stored tables in float32, in which they are built first."""
    return sum(4 * math.prod(entry["shape"]) for entry in stored.values())


def check_codes(module):
    """Refuse codes of centroids that are not there.

    Raises
    ------
    ValueError
    """
    for part in module.modules():
        if isinstance(part, ProductRows):
            part.check()


def with_empty_tables(state):
    """The weights of a `ModelState` with zeros in the place of stored tables, as their modules are
    built from.
    """
    names = [f"{name}." for name in state.stored]
    weights = {
        name: array
        for name, array in state.weights.items()
        if not any(name.startswith(own) for own in names)
    }
    return weights | {n: np.zeros(e["shape"], np.float32) for n, e in state.stored.items()}


def put_in_storage(module, stored):
    """Let empty stored tables take the places of those of a network, as a file describes them.

    Raises
    ------
    ModelFileError
        If a name is that of no table, or the rows are not those of the network.
    """
    if not stored:
        return
    places = places_of_tables(module)
    for name, entry in stored.items():
        if name not in places:
            refuse("stored", f"names of tables, which are {sorted(places)}", name)
        part, attribute = places[name]
        shape = list(getattr(part, attribute).shape)
        if entry["shape"] != shape:
            refuse(f"stored[{name!r}]: shape", shape, entry["shape"])
        n_scales = sum(n for _, n in entry["scales"])
        n_codes = sum(n for _, n in entry["codes"])
        n_vectors = len(part.vector_rows()) if len(shape) == 1 else n_codes
        if n_scales not in (0, n_vectors):
            refuse(f"stored[{name!r}]: scales", f"of {n_vectors} vectors", n_scales)
        books = entry.get("books", ())
        put_stored(part, attribute, QuantizedTable(shape, entry["codes"], entry["scales"], books))
