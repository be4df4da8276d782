"""Files of models as files: pipes, sizes, links, full disks, killed writers; and content forged to
cost time or memory.
"""

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.exceptions import ModelFileError, NonFinitePredictionError
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


@pytest.fixture(scope="module")
def model():
    X, y, _ = make_ctr(200, n_fields=3, cardinality=8, pairs=1, random_state=0)
    return CTRClassifier(network="fm", max_epochs=1, embedding_dim=2, random_state=0).fit(X, y), X


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


# forged content
# ----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", NODES)
def test_headers_cost_time_and_memory_in_proportion(name, monkeypatch):
    data = forged(NODES[name](), [], monkeypatch)
    began = time.process_time()
    with pytest.raises(ModelFileError) as caught:
        _loads(data)
    assert time.process_time() - began < 5 and len(str(caught.value)) < 1000
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            _loads(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * len(data)


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


# finite
# --------------------------------------------------------------------------------------------------


def with_weights(model, X, change, tmp_path, **options):
    """The model in a file whose weights of ids in the middle are changed, and read again."""
    table = model.net_.module_.state_dict()
    before = {name: t.clone() for name, t in table.items()}
    try:
        for t in table.values():
            if t.is_floating_point() and len(t) == sum(model.encoder_.n_ids_):
                # The first and last ids are tried when it is loaded.
                for last in np.cumsum(model.encoder_.n_ids_):
                    t[last - 6 : last - 1] = change
        save(model, tmp_path / "m")
    finally:
        for name, t in table.items():
            t.copy_(before[name])
    return load(tmp_path / "m", **options)


@pytest.mark.parametrize("regressor", [False, True])
def test_finite_weights_that_overflow_are_told(model, tmp_path, regressor):
    classifier, X = model
    fitted = classifier
    if regressor:
        fitted = RatingRegressor(network="fm", max_epochs=1, embedding_dim=2, random_state=0)
        fitted.fit(X, np.arange(len(X)) % 5)
    loaded = with_weights(fitted, X, 1e30, tmp_path)
    with pytest.raises(NonFinitePredictionError, match="predictions of some rows are not finite"):
        loaded.predict(X)
    unknown = X[:2].map(lambda value: "never")
    assert np.isfinite(loaded.predict(unknown)).all()  # those that it can
    silent = with_weights(fitted, X, 1e30, tmp_path, allow_nonfinite=True)
    silent.predict(X)
    good = with_weights(fitted, X, 0.5, tmp_path)
    assert np.isfinite(good.predict(X)).all()


def test_training_goes_on_without_the_check(model, tmp_path):
    classifier, X = model
    save(classifier, tmp_path / "m")
    y = np.arange(len(X)) % 2
    loaded, direct = (
        load(tmp_path / "m").partial_fit(X, y),
        load(tmp_path / "m", allow_nonfinite=True).partial_fit(X, y),
    )
    np.testing.assert_array_equal(loaded.predict_proba(X), direct.predict_proba(X))
    assert not loaded.net_.module_._forward_hooks


def test_coefficients_whose_sums_overflow_are_refused(tmp_path):
    X = np.eye(6)
    fitted = Pipeline([("l", LogisticRegression().fit(X, [0, 1] * 3))])
    fitted[0].coef_[0, :2] = 1e308
    with pytest.raises(ValueError, match="coef_"):
        save(fitted, tmp_path / "m")


# what is written
# ---------------------------------------------------------------------------------------------


@POSIX
def test_a_link_is_followed(tmp_path, encoder):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "model").write_bytes(b"old")
    link = tmp_path / "current"
    link.symlink_to(folder / "model")
    save(encoder, link)
    assert link.is_symlink() and load(folder / "model").field_names_ == ["item", "shop"]
    (tmp_path / "dangling").symlink_to(folder / "new")
    save(encoder, tmp_path / "dangling")
    assert (tmp_path / "dangling").is_symlink() and load(folder / "new") is not None
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="loop"):
        save(encoder, tmp_path / "loop")
    assert sorted(p.name for p in folder.iterdir()) == ["model", "new"]


@POSIX
def test_another_name_of_the_old_file_keeps_it(tmp_path, encoder):
    (tmp_path / "m").write_bytes(b"old")
    os.link(tmp_path / "m", tmp_path / "backup")
    save(encoder, tmp_path / "m")
    assert (tmp_path / "backup").read_bytes() == b"old"


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_permissions_stay(tmp_path, encoder, mode):
    save(encoder, tmp_path / "m")
    (tmp_path / "m").chmod(mode)
    save(encoder, tmp_path / "m")
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == mode


@POSIX
def test_what_is_no_file_is_not_replaced(tmp_path, encoder):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match=f"{name}' is not a regular file"):
            save(encoder, tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(OSError, match="none"):
        save(encoder, tmp_path / "none" / "m")


def test_the_longest_names_work(tmp_path, encoder):
    save(encoder, tmp_path / ("m" * 255))
    assert load(tmp_path / ("m" * 255)) is not None


@POSIX
def test_a_full_disk_keeps_the_old_file(tmp_path, encoder):
    """A limit of the system on the size of files, in a process of its own."""
    path = tmp_path / "m"
    path.write_bytes(b"old")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
            save(encoder, path)
        except OSError:
            code = 5
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@POSIX
def test_a_killed_writer_keeps_the_old_file(tmp_path):
    """SIGKILL at twenty moments of saves that follow each other: the file is always whole, old or
    new.
    """
    rng, path, sizes = np.random.RandomState(0), tmp_path / "m", set()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    starter = subprocess.Popen(
        [sys.executable, "-c", ZYGOTE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    for _ in range(20):
        starter.stdin.write("go\n")
        starter.stdin.flush()
        child = int(starter.stdout.readline().removeprefix("saved "))
        time.sleep(rng.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        assert starter.stdout.readline() == "ended\n"
        sizes.add(int(load(path).n_ids_[0]))
    starter.communicate()
    assert sizes <= {52, 20_002}


ZYGOTE = """
import os, sys
import numpy as np
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import save
columns = [np.arange(n).reshape(-1, 1).astype(str).astype(object) for n in (50, 20_000)]
encoders = [FieldEncoder().fit(column) for column in columns]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        save(encoders[0], sys.argv[1])
        print("saved", os.getpid(), flush=True)
        while True:
            for encoder in encoders:
                save(encoder, sys.argv[1])
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_readers_see_one_file_or_the_other(tmp_path):
    """While two threads replace a file, each load gives one of their models, whole."""
    encoders = [
        FieldEncoder().fit(np.arange(n).reshape(-1, 1).astype(str).astype(object))
        for n in (5, 4000)
    ]
    path = tmp_path / "m"
    save(encoders[0], path)
    stop, faults = threading.Event(), []

    def write(encoder):
        while not stop.is_set():
            try:
                save(encoder, path)
            except Exception as error:
                faults.append(error)

    writers = [threading.Thread(target=write, args=(encoder,)) for encoder in encoders]
    for thread in writers:
        thread.start()
    try:
        seen = {int(load(path).n_ids_[0]) for _ in range(60)}
    finally:
        stop.set()
        for thread in writers:
            thread.join()
    assert not faults and seen <= {7, 4002}
    assert list(tmp_path.iterdir()) == [path]
