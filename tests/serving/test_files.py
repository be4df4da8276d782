"""Files of models as files: pipes, sizes, links, full disks, killed writers; and content forged to
cost time or memory.
"""

import os
import sys
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.feature_crossing import FieldCrosser
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import _container, load, save
from sklearn_autorec.serving._container import pack
from sklearn_autorec.serving._nodes import Writer
from sklearn_autorec.serving._registry import Registry
from sklearn_autorec.serving._save import _loads

POSIX = pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX")

ROWS = pd.DataFrame({"item": np.arange(40) % 7, "shop": list("abcd") * 10})


@pytest.fixture(scope="module")
def encoder():
    return FieldEncoder().fit(ROWS)


# what is read
# ------------------------------------------------------------------------------------------------


@POSIX
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    began = time.monotonic()
    for path in (tmp_path / "pipe", tmp_path / "link", "/dev/null", "/dev/zero"):
        with pytest.raises(ModelFileError, match="is not a regular file"):
            load(path)
    assert time.monotonic() - began < 5
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "loop", tmp_path / "none"):
        with pytest.raises(OSError, match=path.name):
            load(path)
    with pytest.raises((OSError, ModelFileError), match=tmp_path.name):
        load(tmp_path)


def sparse(path, start, size):
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(size)


def test_huge_files_are_refused_before_they_are_read(tmp_path, encoder, monkeypatch):
    save(encoder, tmp_path / "good")
    start = (tmp_path / "good").read_bytes()[:52]
    sparse(tmp_path / "zeros", b"", 2**35)
    with pytest.raises(ModelFileError, match="first bytes differ"):
        load(tmp_path / "zeros")
    sparse(
        tmp_path / "huge",
        start,
        2**50 if sys.platform == "linux" and os.statvfs(tmp_path).f_bsize > 4096 else 2**43,
    )
    monkeypatch.setattr(_container, "available_memory", lambda: 2**33)
    with pytest.raises(
        ModelFileError,
        match=r"8,796,093,022,208 bytes, and 8,589,934,592 bytes of memory are free|bytes",
    ):
        load(tmp_path / "huge")


def test_the_caller_may_set_a_limit(tmp_path, encoder):
    save(encoder, tmp_path / "m")
    size = (tmp_path / "m").stat().st_size
    assert load(tmp_path / "m", max_bytes=size).field_names_ == ["item", "shop"]
    with pytest.raises(
        ModelFileError, match=f"has {size:,} bytes, more than max_bytes={size - 1:,}"
    ):
        load(tmp_path / "m", max_bytes=size - 1)
    for wrong in (-1, 0.5, True, "1"):
        with pytest.raises(ValueError, match="max_bytes must be None or an int"):
            load(tmp_path / "m", max_bytes=wrong)


def test_a_file_that_grows_or_shrinks_meanwhile_is_refused(tmp_path, encoder, monkeypatch):
    save(encoder, tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    for other in (whole[:-1], whole + b"x"):
        (tmp_path / "m").write_bytes(whole)
        with monkeypatch.context() as patch:
            # The last thing before the content is read.
            patch.setattr(
                _container,
                "available_memory",
                lambda other=other: (tmp_path / "m").write_bytes(other) and 2**60,
            )
            with pytest.raises(ModelFileError, match="changed while it was read"):
                load(tmp_path / "m")


def forged(node, arrays, monkeypatch):
    """A whole file of a node, also of one that `save` would not write."""
    with monkeypatch.context() as patch:
        patch.setattr(_container, "_bounded", lambda header: True)
        return b"".join(bytes(part) for part in pack(node, arrays))


def tuples_of_one_hash(k):
    """-1 and -2 have the same hash, and so have all the tuples of them."""
    return [{"kind": "tuple", "items": [-1 - (i >> b & 1) for b in range(k)]} for i in range(2**k)]


LONG = "x" * 400_000

OBJECT = {
    "kind": "object",
    "class": "sklearn_autorec.preprocessing.FieldEncoder",
    "output": None,
    "params": {},
}

NODES = {
    "empty lists": lambda: [[]] * 150_000,
    "empty dicts": lambda: [{}] * 150_000,
    "lists of one": lambda: [[0]] * 100_000,
    "strings": lambda: ["ab"] * 100_000,
    "numbers": lambda: [0.5] * 100_000,
    "brackets in text": lambda: ["[{" * 200_000] * 2,
    "a long key over items": lambda: {"kind": "dict", "items": [[LONG, [0] * 50_000]]},
    "a long tuple over items": lambda: {
        "kind": "dict",
        "items": [[{"kind": "tuple", "items": [LONG]}, [0] * 50_000]],
    },
    "a long name of state": lambda: {**OBJECT, "state": {LONG: [0] * 50_000}},
    "tuples of one hash in a dict": lambda: {
        "kind": "dict",
        "items": [[t, 0] for t in tuples_of_one_hash(14)],
    },
    "tuples of one hash in a set": lambda: {"kind": "set", "items": tuples_of_one_hash(14)},
    "sets of one hash": lambda: {
        "kind": "frozenset",
        "items": [{"kind": "frozenset", "items": [t]} for t in tuples_of_one_hash(13)],
    },
    "long numbers": lambda: [float("0." + "1" * 17)] * 50_000,
}

# forged content
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NODES)
def test_headers_cost_time_and_memory_in_proportion(name, monkeypatch):
    data = forged(NODES[name](), [], monkeypatch)
    tracemalloc.start()  # which takes its share of the time
    try:
        began = time.process_time()
        with pytest.raises(ModelFileError) as caught:
            _loads(data)
        seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seconds < 5 and peak < 32 * len(data) and len(str(caught.value)) < 1000


def test_a_long_fraction_is_refused():
    text = b'{"arrays":[],"model":0.' + b"1" * 10**6 + b"}"
    with pytest.raises(ModelFileError, match="number of 1000002 characters"):
        _container._parse(text)


def integers_of_one_hash(n):
    low = np.arange(1, n + 1, dtype=np.uint64)
    high = ((low ^ low << np.uint64(11)) & np.uint64(0x7FFFFFFF)) << np.uint64(1)
    return (high << np.uint64(32) | low).view(np.int64)


def floats_of_one_hash(n):
    factor = 0x5BD1E995
    inverse = pow(factor, -1, 2**32)
    low = np.arange(5, n + 5, dtype=np.uint64)

    def times(a, b):
        return a * np.uint64(b) & np.uint64(0xFFFFFFFF)

    part = times(low, factor)
    h = times(
        np.uint64((0xC70F6907 ^ 4) * factor & 0xFFFFFFFF)
        ^ times(part ^ part >> np.uint64(24), factor),
        factor,
    )
    part = times(h ^ np.uint64(12345), inverse)
    high = times(part ^ part >> np.uint64(24), inverse)
    found = (high << np.uint64(32) | low).view(np.float64)
    return found[np.isfinite(found)]


@pytest.mark.parametrize("numbers", [integers_of_one_hash, floats_of_one_hash])
def test_ids_of_one_hash_are_refused(numbers, monkeypatch):
    """The tables of pandas take quadratic time for them: 200,000 in 1.6 MB would take a minute."""
    few, many = numbers(4000), numbers(16_000)
    times = []
    for values in (few, many):
        began = time.process_time()
        pd.unique(values)
        times.append(time.process_time() - began)
    assert times[1] > 6 * times[0]  # that they are what they are to be
    column = pd.DataFrame(
        {"id": np.arange(10) if numbers is integers_of_one_hash else np.arange(10) + 0.5}
    )
    writer = Writer(Registry())
    node = writer.node(FieldEncoder(categorical_features=["id"]).fit(column), "The encoder")
    arrays = [
        many if len(a) == 10 and k == 0 else np.ones(len(many) + 2, np.int64) if len(a) == 12 else a
        for k, a in enumerate(writer.arrays)
    ]
    with pytest.raises(ModelFileError, match="numbers of the same hash"):
        _loads(forged(node, arrays, monkeypatch))


def test_ids_of_every_ordinary_kind_pass(tmp_path):
    n = 20_000
    rng = np.random.RandomState(0)
    ids = {
        "counted": np.arange(n),
        "even": np.arange(n) * 2**20,
        "far": np.arange(n) * 2**40,
        "negative": -np.arange(n) * 2**33,
        "random": rng.randint(0, 2**62, n),
        "times": 1_700_000_000_000_000_000 + np.arange(n) * 10**9,
        "snowflake": (np.arange(n, dtype=np.int64) + 10**11) << 22,
        "halves": np.arange(n) + 0.5,
        "powers": rng.normal(size=n) * 2.0 ** rng.randint(-300, 300, n),
    }
    X = pd.DataFrame(ids)
    encoder = FieldEncoder(categorical_features=list(X)).fit(X)
    save(encoder, tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").transform(X[:50]), encoder.transform(X[:50]))


def test_crosses_and_names_of_one_hash_are_refused(monkeypatch):
    writer = Writer(Registry())
    crosser = FieldCrosser(crosses=[("item", "shop")]).fit(ROWS)
    node = writer.node(crosser, "The crosser")
    node["state"]["crosses"] = tuples_of_one_hash(12)
    with pytest.raises(ModelFileError, match="crosses"):
        _loads(forged(node, writer.arrays, monkeypatch))
    writer = Writer(Registry())
    node = writer.node(FieldEncoder().fit(ROWS), "The encoder")
    names = tuples_of_one_hash(12)
    node["state"]["names"] = names
    node["state"]["kinds"] = ["categorical"] * len(names)
    with pytest.raises(ModelFileError, match="names has 4096 keys of the same hash"):
        _loads(forged(node, writer.arrays, monkeypatch))


def test_one_long_string_does_not_widen_all(monkeypatch):
    words = ["x" * 100_000] + [""] * 50_000
    text = np.frombuffer("".join(words).encode(), np.uint8)
    lengths = np.array([len(word) for word in words], np.uint32)
    node = {"kind": "strings", "shape": [len(words)], "text": 0, "lengths": 1, "dtype": "<U100000"}
    with pytest.raises(ModelFileError, match="makes all others too wide"):  # 20 GB
        _loads(forged(node, [text, lengths], monkeypatch))


def test_the_same_is_said_when_saving(tmp_path):
    X = np.array([["x" * 3000], *[[str(i)] for i in range(3000)]])
    pipeline = Pipeline([("one", OneHotEncoder())]).fit(X)
    with pytest.raises(ValueError, match="could not be loaded again.*dtype object"):
        save(pipeline, tmp_path / "m")
    save(Pipeline([("one", OneHotEncoder())]).fit(X.astype(object)), tmp_path / "m")
