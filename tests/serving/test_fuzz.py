"""Files changed at random: each load refuses with one exception type or gives a model that works.

``python -m pytest tests/serving/test_fuzz.py -m slow`` makes 20,000 changes and 2,000 that know the
structure, the ordinary run 600 and 80. ``AUTOREC_FUZZ=0.2`` makes a share of them."""

import hashlib
import json
import os
import random
import resource
import struct
import sys
import time
import warnings
from collections import Counter

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.feature_crossing import AutoCross
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.linear_model import CrossedLinearClassifier
from sklearn_autorec.networks import AutoInt, DCNv2, DeepFM
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import save
from sklearn_autorec.serving._container import pack, unpack
from sklearn_autorec.serving._registry import Registry
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


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """By name: bytes of the file, rows, predictions of the model."""
    X, y, _ = make_ctr(400, n_fields=4, cardinality=6, n_numeric=1, n_sequences=1, random_state=0)
    X["f0"] = X["f0"].str[1:].astype(int)
    options = {"embedding_dim": 2, "max_epochs": 1, "random_state": 0, "device": "cpu"}
    texts = X[["f1", "f2"]].assign(f2=lambda t: t["f2"].where(t["f2"] != "v0", None))
    columns = ColumnTransformer(
        [
            ("one", OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=20), ["f1"]),
            (
                "two",
                Pipeline(
                    [("fill", SimpleImputer(strategy="most_frequent")), ("o", OrdinalEncoder())]
                ),
                ["f2"],
            ),
            ("rest", "passthrough", ["x0"]),
        ]
    )
    small = DeepFM(hidden_units=(4,))
    crosses = AutoCross(
        output="onehot", max_crosses=2, n_bins=3, n_folds=1, min_gain=0.0, random_state=0
    )
    models = {
        "clicks": (CTRClassifier(network=small, search=AutoFIS(), **options), X),
        "attention": (
            CTRClassifier(network=AutoInt(hidden_units=(3,), n_heads=1, width=2), **options),
            X,
        ),
        "cross": (
            RatingRegressor(network=DCNv2(hidden_units=(3,), rank=2, n_cross_layers=1), **options),
            X,
        ),
        "sparse": (CTRClassifier(network="fm", search=PEP(target_sparsity=0.95), **options), X),
        "bits": (
            CTRClassifier(
                network=small, search=PEP(target_sparsity=0.5), **options | {"embedding_dim": 8}
            ),
            X,
        ),
        "widths": (
            RatingRegressor(
                network=small, search=AutoDim(candidates=(0, 1, 2)), **options | {"random_state": 1}
            ),
            X,
        ),
        "encoder": (FieldEncoder(numeric="standard", hash_threshold=8, n_hash_buckets=4), X),
        "scaled": (
            Pipeline([("s", StandardScaler()), ("m", RatingRegressor(network="fm", **options))]),
            X[["x0"]],
        ),
        "mixed": (
            Pipeline([("c", columns), ("l", LogisticRegression())]),
            texts.assign(x0=X["x0"].to_numpy()),
        ),
        "crossed": (
            CrossedLinearClassifier(
                max_crosses=2, min_gain=0.0, n_bins=(2, 4), n_folds=1, random_state=0
            ),
            X,
        ),
        "parts": (
            CTRClassifier(network=small, wide="autocross", target_statistics=True, **options),
            X,
        ),
        "pairs": (Pipeline([("c", crosses), ("l", LogisticRegression(max_iter=500))]), X),
    }
    found = {}
    for name, (model, rows) in models.items():
        model.fit(
            rows,
            y
            if name in ("clicks", "sparse", "bits", "mixed", "pairs", "crossed", "parts")
            else y.astype(float),
        )
        path = tmp_path_factory.mktemp("fuzz") / name
        save(model, path)
        found[name] = path.read_bytes(), rows, predictions(model, rows)
    for form in ("sparse", "bits"):
        assert models[form][0].net_.module_.embedding.form == form
    assert len(set(models["widths"][0].embedding_sizes_.values())) > 1
    assert crosses.crosses_
    assert set(models["parts"][0].part_weights_) == {"network", "wide", "target_statistics"}
    return found


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


def check(counts, n):
    # Each kind of change is tried, most are refused, and some forged files load: the checks behind
    # the checksum were met.
    assert counts.total() == n
    assert counts[("damage", "refused")] > 0.15 * n
    assert counts[("forge", "refused")] > 0.25 * n
    assert counts[("forge", "same")] + counts[("forge", "other")] > 0.03 * n


def test_whole_files_pass_the_same_mill(saved):
    for data, rows, expected in saved.values():
        start, header = header_of(data)
        assert attempt(data, rows, expected, "same") == "same"
        assert attempt(with_header(data, start, header), rows, expected, "same") == "same"


def test_changed_files_are_refused_or_work(saved):
    check(fuzz(saved, 600, seed=0), 600)


@pytest.mark.slow
def test_twenty_thousand_changed_files(saved):
    n = int(20_000 * SHARE)
    check(fuzz(saved, n, seed=1), n)


# forged with knowledge of the structure
# ----------------------------------------------------------------------


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


def test_forged_structures_are_refused_or_work(saved):
    check_structure(fuzz_structure(saved, 80, seed=0), 80)


@pytest.mark.slow
def test_two_thousand_forged_structures(saved):
    n = int(2000 * SHARE)
    check_structure(fuzz_structure(saved, n, seed=1), n)


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
