"""What the tests of files changed at random share."""

import hashlib
import json
import os
import random
import resource
import struct
import time
import warnings
from collections import Counter

import numpy as np

from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.serving._save import _loads

PREFIX = 52

SECONDS = 5  # longest load, and one more for each million bytes

SHARE = float(os.environ.get("AUTOREC_FUZZ", "1"))  # of the slow runs

EXTRA_BYTES = 2**29  # of memory that all loads together may have taken at most

VALUES = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    10**6,
    10**9,
    10**12,
    2**63 - 1,
    2**63,
    10**30,
    0.5,
    -1e300,
    1e300,
    1e-320,
]

VALUES += [
    "",
    "a",
    "|O",
    "<f4",
    "<U3",
    "sklearn_autorec.networks.FM",
    "nan",
    "object",
    "drop",
    "cuda",
    "\ud800",
    [],
    {},
]

VALUES += [
    [[]],
    [0, 1],
    {"kind": "float", "value": "nan"},
    {"kind": "tuple", "items": []},
    {"kind": "array", "index": 0},
]

VALUES += [
    {"kind": "dict", "items": []},
    {"kind": "type", "value": "object"},
    {"kind": "set", "items": [1]},
]

VALUES += [
    {"kind": "NA"},
    {
        "kind": "object",
        "class": "sklearn_autorec.networks.FM",
        "output": None,
        "params": {},
        "state": None,
    },
]


def predictions(model, rows):
    rows = rows.copy()  # a scaler that lost its copy=True would change those of all later files
    for method in ("predict_proba", "predict", "transform"):
        if hasattr(model, method):
            return np.asarray(getattr(model, method)(rows), dtype=np.float64)
    raise AssertionError(model)


def damage(data, rng, other):
    """One change of the bytes as they are: flipped bits, a cut, a splice."""
    data = bytearray(data)
    how = rng.randrange(6)
    at, n = rng.randrange(len(data)), rng.randrange(1, 200)
    if how == 0:
        for _ in range(rng.choice([1, 1, 1, 5, 50])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == 1:
        data[rng.randrange(min(PREFIX + 400, len(data)))] ^= 1 << rng.randrange(8)
    elif how == 2:
        del data[at:]
    elif how == 3:
        del data[at : at + n]
    elif how == 4:
        data[at:at] = data[at : at + n] or b"x"
    else:
        data[at:] = other[rng.randrange(len(other)) :]
    return bytes(data)


def forge(data, rng):
    """A file with a right checksum whose header has a few changed values."""
    start, header = header_of(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        rng.choice([change, nudge])(header, rng)
    return with_header(data, start, header)


def header_of(data):
    length = struct.unpack_from("<Q", data, 12)[0]
    return PREFIX + length, json.loads(data[PREFIX : PREFIX + length])


def with_header(data, start, header):
    """The arrays of a file under another header, padded and with the checksum anew."""
    text = json.dumps(header).encode()
    body = data[start + -start % 64 :]
    return signed(
        data[8:12], text + bytes(-(PREFIX + len(text)) % 64 if body else 0) + body, len(text)
    )


def signed(version, content, length):
    digest = hashlib.sha256(data_start := b"\x93AUTOREC" + version + struct.pack("<Q", length))
    digest.update(content)
    return data_start + digest.digest() + content


def change(header, rng):
    """Replace, remove or repeat one random value anywhere in the header."""
    places = []

    def walk(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(header)
    if not places:
        return
    node, key = rng.choice(places)
    old, how = node[key], rng.randrange(8)
    if how == 0:
        del node[key]
    elif how == 1 and isinstance(node, list):
        node.insert(key, old)
    elif how == 2 and isinstance(node, dict):
        node[rng.choice(["x", "steps", "n_jobs", "kind"])] = rng.choice(VALUES)
    elif how == 3:
        swap, place = rng.choice(places)
        if place in swap if isinstance(swap, dict) else place < len(swap):
            node[key] = json.loads(json.dumps(swap[place]))
    elif type(old) is int:
        node[key] = rng.choice(
            [old + 1, old - 1, -old, old * 1000, old + 10**9, 10**12, rng.choice(VALUES)]
        )
    elif isinstance(old, float):
        node[key] = rng.choice([-old, old * 1e10, 0.0, 1e308, rng.choice(VALUES)])
    elif isinstance(old, str):
        node[key] = rng.choice([old + "x", old[1:], old.upper(), "../" + old, rng.choice(VALUES)])
    else:
        node[key] = rng.choice(VALUES)


def nudge(header, rng):
    """Replace one random number, string or constant of the model by another of its type, not far
    away.
    """
    leaves, strings = [], ["numpy", "passthrough"]

    def walk(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            if isinstance(node[key], dict | list):
                walk(node[key])
            else:
                leaves.append((node, key))
                strings.extend([node[key]] * isinstance(node[key], str))

    walk([header.get("model")])
    if not leaves:
        return
    node, key = rng.choice(leaves)
    old = node[key]
    if old is None or isinstance(old, bool):
        node[key] = rng.choice([None, True, False])
    elif isinstance(old, int | float):
        node[key] = rng.choice([old + 1, old - 1, 2 * old, old // 2])
    else:
        node[key] = rng.choice(strings)


def forge_arrays(data, rng):
    """A file with a right checksum and a changed byte in its arrays."""
    start, _ = header_of(data)
    changed = bytearray(data)
    if start < len(data):
        changed[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
    return signed(data[8:12], bytes(changed[PREFIX:]), start - PREFIX)


def attempt(data, rows, expected, must_be):
    """Load and predict; "refused", "same", "other" or "cannot predict". Anything else is an error
    of the loader.
    """
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = _loads(data)
        except ModelFileError:
            return "refused"
        finally:
            assert time.process_time() - began < SECONDS + len(data) / 1e6
        try:
            found = predictions(model, rows)
        except ValueError:
            assert must_be != "same"
            return "cannot predict"
    if found.shape == expected.shape and np.array_equal(found, expected):
        return "same"
    assert must_be != "same"
    assert must_be != "finite" or np.isfinite(found).all()
    return "other"


def fuzz(saved, n, seed):
    rng = random.Random(seed)
    names = sorted(saved)
    outcomes = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for k in range(n):
        name = names[k % len(names)]
        data, rows, expected = saved[name]
        kind = rng.choice(["damage", "forge", "forge", "forge_arrays"])
        try:
            if kind == "damage":
                outcome = attempt(
                    damage(data, rng, saved[rng.choice(names)][0]), rows, expected, "same"
                )
            elif kind == "forge":
                outcome = attempt(forge(data, rng), rows, expected, "finite")
            else:
                outcome = attempt(forge_arrays(data, rng), rows, expected, "any")
        except Exception as error:
            raise AssertionError(f"change {k} ({kind} of {name!r}) with seed {seed}") from error
        outcomes.append((kind, outcome))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < EXTRA_BYTES
    return Counter(outcomes)
