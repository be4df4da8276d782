"""Files changed at random: each load refuses with one exception type or gives a model that works.

``python -m pytest tests/serving/test_fuzz.py -m slow`` makes 10,000 changes, the ordinary run 600.
"""

import hashlib
import json
import random
import resource
import struct
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
from sklearn_autorec.networks import AutoInt, DCNv2, DeepFM
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import save
from sklearn_autorec.serving._save import _loads

PREFIX = 52
SECONDS = 5  # longest load
EXTRA_BYTES = 2**29  # of memory that all loads together may have taken at most
VALUES = [None, True, False, 0, -1, 1, 2, 10**6, 10**9, 10**12, 2**63 - 1, 2**63, 10**30, 0.5, -1e300, 1e300, 1e-320]
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
VALUES += [{"kind": "dict", "items": []}, {"kind": "type", "value": "object"}, {"kind": "set", "items": [1]}]
VALUES += [
    {"kind": "NA"},
    {"kind": "object", "class": "sklearn_autorec.networks.FM", "output": None, "params": {}, "state": None},
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
            ("two", Pipeline([("fill", SimpleImputer(strategy="most_frequent")), ("o", OrdinalEncoder())]), ["f2"]),
            ("rest", "passthrough", ["x0"]),
        ]
    )
    small = DeepFM(hidden_units=(4,))
    crosses = AutoCross(output="onehot", max_crosses=2, n_bins=3, n_folds=1, min_gain=0.0, random_state=0)
    models = {
        "clicks": (CTRClassifier(network=small, search=AutoFIS(), **options), X),
        "attention": (CTRClassifier(network=AutoInt(hidden_units=(3,), n_heads=1, width=2), **options), X),
        "cross": (RatingRegressor(network=DCNv2(hidden_units=(3,), rank=2, n_cross_layers=1), **options), X),
        "sparse": (CTRClassifier(network="fm", search=PEP(target_sparsity=0.95), **options), X),
        "bits": (CTRClassifier(network=small, search=PEP(target_sparsity=0.5), **options | {"embedding_dim": 8}), X),
        "widths": (
            RatingRegressor(network=small, search=AutoDim(candidates=(0, 1, 2)), **options | {"random_state": 1}),
            X,
        ),
        "encoder": (FieldEncoder(numeric="standard", hash_threshold=8, n_hash_buckets=4), X),
        "scaled": (Pipeline([("s", StandardScaler()), ("m", RatingRegressor(network="fm", **options))]), X[["x0"]]),
        "mixed": (
            Pipeline([("c", columns), ("l", LogisticRegression())]),
            texts.assign(x0=X["x0"].to_numpy()),
        ),
        "pairs": (Pipeline([("c", crosses), ("l", LogisticRegression(max_iter=500))]), X),
    }
    found = {}
    for name, (model, rows) in models.items():
        model.fit(rows, y.astype(float) if "e" in name else y)
        path = tmp_path_factory.mktemp("fuzz") / name
        save(model, path)
        found[name] = path.read_bytes(), rows, predictions(model, rows)
    for form in ("sparse", "bits"):
        assert models[form][0].net_.module_.embedding.form == form
    assert len(set(models["widths"][0].embedding_sizes_.values())) > 1
    assert crosses.crosses_
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
    return signed(data[8:12], text + bytes(-(PREFIX + len(text)) % 64 if body else 0) + body, len(text))


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
        node[key] = rng.choice([old + 1, old - 1, -old, old * 1000, old + 10**9, 10**12, rng.choice(VALUES)])
    elif isinstance(old, float):
        node[key] = rng.choice([-old, old * 1e10, 0.0, 1e308, rng.choice(VALUES)])
    elif isinstance(old, str):
        node[key] = rng.choice([old + "x", old[1:], old.upper(), "../" + old, rng.choice(VALUES)])
    else:
        node[key] = rng.choice(VALUES)


def nudge(header, rng):
    """Replace one random number, string or constant of the model by another of its type, not far away."""
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
    """Load and predict; "refused", "same", "other" or "cannot predict". Anything else is an error of the loader."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = _loads(data)
        except ModelFileError:
            return "refused"
        finally:
            assert time.perf_counter() - began < SECONDS
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
                outcome = attempt(damage(data, rng, saved[rng.choice(names)][0]), rows, expected, "same")
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
    # Each kind of change is tried, most are refused, and some forged files load: the checks behind the checksum were met.
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
def test_ten_thousand_changed_files(saved):
    counts = fuzz(saved, 10_000, seed=1)
    check(counts, 10_000)
