"""Files forged with knowledge of their structure are refused or give a model that works."""

import json
import random
import resource
import sys
import time
import warnings
from collections import Counter

import numpy as np
import pytest
from fuzz_cases import EXTRA_BYTES, SHARE, attempt, forge, header_of

from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.serving._container import pack, unpack
from sklearn_autorec.serving._registry import Registry
from sklearn_autorec.serving._save import _loads


def nodes_of(header, kind):
    """All nodes of a kind in a header, as (container, key)."""
    found = []

    def walk(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            inner = node[key]
            if isinstance(inner, dict | list):
                if isinstance(inner, dict) and inner.get("kind") == kind:
                    found.append((node, key))
                walk(inner)

    walk([header["model"]])
    return found


def swap_nodes(header, arrays, rng):
    """Two nodes of one kind change places."""
    found = nodes_of(header, rng.choice(["array", "dict", "strings", "object", "tuple"]))
    if len(found) > 1:
        (a, i), (b, k) = rng.sample(found, 2)
        one, other = json.dumps(a[i]), json.dumps(b[k])
        a[i], b[k] = json.loads(other), json.loads(one)


def another_array(header, arrays, rng):
    """An array of another shape, dtype or length, declared as it is."""
    if not arrays:
        return
    k = rng.randrange(len(arrays))
    old = arrays[k]
    ways = [
        lambda: old[..., :-1] if old.size and old.ndim else old,
        lambda: np.concatenate([old, old[:1]]) if old.ndim and len(old) else old,
        lambda: old.reshape(-1),
        lambda: old.T,
        lambda: np.zeros((0, *old.shape[1:]), old.dtype) if old.ndim else old,
        lambda: old.astype(rng.choice(["<f8", "<f4", "<i8", "|u1", "|b1"])),
        lambda: np.repeat(old, 50, axis=0) if old.ndim else old,
    ]
    with np.errstate(invalid="ignore", over="ignore"):  # a number that was made infinite before
        arrays[k] = np.ascontiguousarray(rng.choice(ways)())


def another_value(header, arrays, rng):
    """One number of an array at an end of its range."""
    places = [k for k, array in enumerate(arrays) if array.size]
    if not places:
        return
    k = rng.choice(places)
    arrays[k] = array = arrays[k].copy()
    at = rng.randrange(array.size)
    if array.dtype.kind == "f":
        limits = np.finfo(array.dtype)
        value = rng.choice([np.nan, np.inf, limits.max, limits.min, limits.tiny, 0.0, -1.0])
    elif array.dtype.kind == "b":
        value = rng.choice([True, False])
    else:
        limits = np.iinfo(array.dtype)
        value = rng.choice([limits.max, limits.min, 0, 1])
    array.reshape(-1)[at] = value
    if rng.random() < 0.2:
        array.reshape(-1)[:] = value


def longer_lists(header, arrays, rng):
    """A list, or the pairs of a dict, many times as long; keys that differ or do not."""
    found = nodes_of(header, rng.choice(["dict", "tuple", "set", "frozenset"]))
    if found:
        node, key = rng.choice(found)
        items, n = node[key]["items"], rng.choice([2, 100, 5000])
        pairs = node[key]["kind"] == "dict"
        odd = {"kind": "tuple", "items": [-1 - (n & 1)] * 3}
        more = [
            json.loads(json.dumps(items or [[0, 0] if pairs else 0]))
            for _ in range(min(n, 20000 // (len(items) + 1)))
        ]
        for number, copy in enumerate(more):
            for item in copy:
                if pairs and rng.random() < 0.9:
                    item[0] = rng.choice([f"k{number}", number, odd])
        node[key]["items"] = items + [item for copy in more for item in copy]


def another_class(header, arrays, rng):
    """An object of another class that is known, with the parameters that it has."""
    found = nodes_of(header, "object")
    if found:
        node, key = rng.choice(found)
        node[key]["class"] = rng.choice(sorted(Registry().classes))
        if rng.random() < 0.5:
            node[key]["params"] = {}
        if rng.random() < 0.3:
            node[key]["state"] = None


def deeper(header, arrays, rng):
    """A value within many others."""
    found = nodes_of(header, rng.choice(["dict", "array", "object"]))
    if found:
        node, key = rng.choice(found)
        for _ in range(rng.choice([1, 10, 70])):
            node[key] = {"kind": rng.choice(["tuple", "set", "frozenset"]), "items": [node[key]]}


STRUCTURED = [swap_nodes, another_array, another_value, longer_lists, another_class, deeper]


def fuzz_structure(saved, n, seed):
    rng, names, outcomes = random.Random(seed), sorted(saved), []
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for k in range(n):
        data, rows, expected = saved[names[k % len(names)]]
        _, arrays = unpack(data)
        header, arrays = header_of(data)[1], [np.array(array) for array in arrays]
        ways = rng.choices(STRUCTURED, k=rng.choice([1, 1, 2]))
        try:
            for way in ways:
                way(header, arrays, rng)
            try:
                forged = b"".join(bytes(part) for part in pack(header["model"], arrays))
            except ValueError:  # too many small parts
                outcomes.append((ways[0].__name__, "not written"))
                continue
            outcome = attempt(forged, rows, expected, "any")
        except Exception as error:
            raise AssertionError(
                f"change {k} ({[w.__name__ for w in ways]}) with seed {seed}"
            ) from error
        outcomes.append((ways[0].__name__, outcome))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < EXTRA_BYTES and time.process_time() - started < n
    return Counter(outcomes)


def check_structure(counts, n):
    assert counts.total() == n
    for way in STRUCTURED:
        assert counts[(way.__name__, "refused")] > 0
    assert (
        sum(counts[(way.__name__, found)] for way in STRUCTURED for found in ("same", "other"))
        > 0.02 * n
    )


@pytest.mark.parametrize("n", [80, pytest.param(int(2000 * SHARE), marks=pytest.mark.slow)])
def test_forged_structures_are_refused_or_work(n, saved):
    check_structure(fuzz_structure(saved, n, seed=n), n)


def test_nothing_in_a_file_runs(saved):
    """While files are read, nothing is imported, compiled, started or opened that whole files do
    not need.
    """
    seen, watching = [], [False]

    def hear(event, arguments):
        kinds = ("exec", "compile", "subprocess", "os", "import", "open", "socket", "pickle")
        # The packages of this one are listed by their folder.
        if watching[0] and event.split(".")[0] in kinds and event != "os.listdir":
            told = (event, str(arguments[:1]))
            # inspect, for a repr in a message.
            if told != ("compile", "(b'def foo(self, *args, **kwargs): pass',)"):
                seen.append(told)

    for data, _, _ in saved.values():
        _loads(data)  # whatever is imported late
    sys.addaudithook(hear)
    rng, names = random.Random(5), sorted(saved)
    for k in range(60):
        data = forge(saved[names[k % len(names)]][0], rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            watching[0] = True
            try:
                _loads(data)
            except ModelFileError:
                pass
            finally:
                watching[0] = False
    assert not seen
