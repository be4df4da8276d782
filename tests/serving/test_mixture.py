"""Models of several parts (network, crossed linear model, boosted trees) in files, and
forged ones.
"""

import json
import time

import numpy as np
import pandas as pd
import pytest

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.networks import DeepFM
from sklearn_autorec.serving import _statistics as statistics_of_files
from sklearn_autorec.serving import load, save
from sklearn_autorec.serving._container import pack, unpack
from sklearn_autorec.serving._forest import DEEPEST, check_forest
from sklearn_autorec.serving._save import _loads
from sklearn_autorec.serving._statistics import restored_statistics

OPTIONS = {"embedding_dim": 2, "max_epochs": 1, "random_state": 0, "device": "cpu"}


def table(n=600):
    rng = np.random.RandomState(0)
    X = pd.DataFrame({f"f{j}": rng.randint(0, 5, n) for j in range(3)}).astype(str)
    X["x"] = np.where(rng.random_sample(n) < 0.1, np.nan, rng.normal(size=n))
    y = (X["f0"] == X["f1"]) ^ (rng.random_sample(n) < 0.05)
    return X, y.astype(int).to_numpy()


@pytest.fixture(scope="module", params=[CTRClassifier, RatingRegressor])
def model(request):
    X, y = table()
    found = request.param(
        network=DeepFM(hidden_units=(4,)), wide="autocross", target_statistics=True, **OPTIONS
    )
    found.fit(X, y if request.param is CTRClassifier else y * 3.0)
    assert set(found.part_weights_) == {"network", "wide", "target_statistics"}
    parts = found._mixture_.models
    assert (
        parts["wide"].crosses
        and parts["target_statistics"].crosses
        and len(parts["target_statistics"].trees[0])
    )
    return found


@pytest.fixture(scope="module")
def data(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("mixture") / "model"
    save(model, path)
    return path.read_bytes()


def test_parts_come_back(model, data, tmp_path):
    (tmp_path / "model").write_bytes(data)
    loaded, (X, _) = load(tmp_path / "model"), table()
    assert loaded.part_weights_ == model.part_weights_
    for rows in (X, X[:1], X[:20].assign(f0="never seen", x=np.nan)):
        np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    assert b"".join(bytes(part) for part in pack(*whole(data))) == data


def whole(data):
    header, arrays = unpack(data)
    return json.loads(json.dumps(header)), [np.array(a) for a in arrays]


class Forgery:
    """The parts of a file, to be changed: dicts and lists of the header, arrays behind
    their nodes.
    """

    def __init__(self, data):
        self.header, self.arrays = whole(data)
        self.mixture = self.items(self.header["state"]["mixture"])
        self.models = self.items(self.mixture["models"])
        self.wide, self.boosted = (
            self.items(self.models[name]) for name in ("wide", "target_statistics")
        )
        self.statistics = self.items(self.boosted["statistics"])
        self.trees = self.items(self.boosted["trees"][0])
        self.weights = self.items(self.mixture["weights"])

    @staticmethod
    def items(node):
        """The items of a dict's node as a dict that is written back by `data`."""
        found = dict(node["items"])
        node["items"] = found
        return found

    def array(self, node):
        return self.arrays[node["index"]]

    def put(self, node, array):
        self.arrays[node["index"]] = np.ascontiguousarray(array)

    def data(self):
        def written(node):
            if isinstance(node, list):
                return [written(inner) for inner in node]
            if not isinstance(node, dict):
                return node
            node = {name: written(inner) for name, inner in node.items()}
            if node.get("kind") == "dict" and isinstance(node["items"], dict):
                node["items"] = [[name, inner] for name, inner in node["items"].items()]
            return node

        return b"".join(bytes(part) for part in pack(written(self.header), self.arrays))


def tuple_of(*items):
    return {"kind": "tuple", "items": list(items)}


def trees(**changes):
    """Change arrays of the first sum of trees by functions of the array."""

    def change(f):
        for name, way in changes.items():
            f.put(f.trees[name], way(f.array(f.trees[name]).copy()))

    return change


def at(place, value):
    def way(array):
        array[place] = value
        return array

    return way


def put(part, name, value):
    return lambda f: getattr(f, part).update({name: value})


def another(part, name, way, k=None):
    """Replace an array of a part (the k-th of a list of them) by what a function makes of it."""

    def change(f):
        node = getattr(f, part)[name]
        node = node if k is None else node[k]
        f.put(node, way(f.array(node).copy()))

    return change


def chain_of_trees(f):
    """One tree that is a chain of 2,000 nodes, and 2,000 of one leaf, each of which would be walked
    as deep.
    """
    n = 1000
    own = np.arange(2 * n + 1 + 2 * n)
    left, right = own.copy(), own.copy()
    inner = np.arange(0, 2 * n, 2)
    left[inner], right[inner] = inner + 1, inner + 2
    roots = np.concatenate([[0], np.arange(2 * n + 1, len(own))])
    arrays = {"roots": roots.astype("i4"), "left": left.astype("i4"), "right": right.astype("i4")}
    arrays |= {"feature": np.zeros(len(own), "i2"), "missing_left": np.zeros(len(own), bool)}
    arrays |= {"threshold": np.zeros(len(own)), "value": np.zeros(len(own))}
    for name, array in arrays.items():
        f.put(f.trees[name], array)


def extra_part(f):
    f.models["forest"] = f.models.pop("wide")


FORGED = {
    "no parts": (lambda f: f.models.clear(), "mixture: models"),
    "an unknown part": (extra_part, "mixture: models"),
    "a weight without a part": (put("weights", "forest", 0.0), "mixture: weights"),
    "a negative weight": (put("weights", "wide", -1.0), "weight of wide"),
    "weights beyond one": (put("weights", "wide", 0.9), "of sum 1"),
    "a weight that is true": (put("weights", "wide", True), "weight of wide"),
    "a weight that is no number": (put("weights", "wide", "0.3"), "weight of wide"),
    "wide of a list": (put("models", "wide", []), "must be a dict"),
    "wide weights beyond sums": (another("wide", "weights", at((0, 1), 1e150)), "within 1e\\+100"),
    "wide weights of another length": (
        another("wide", "weights", lambda a: a[:, :-1]),
        "weights must be",
    ),
    "wide crosses of one field": (put("wide", "crosses", [tuple_of(0, 0)]), "crosses"),
    "wide crosses out of range": (put("wide", "crosses", [tuple_of(0, 99)]), "crosses"),
    "edges falling": (another("boosted", "edges", lambda a: a[::-1], 0), "edges .* rising"),
    "edges of a wider type": (another("boosted", "edges", lambda a: a.astype("f8"), 0), "edges"),
    "edges that are not finite": (another("boosted", "edges", at(0, -np.inf), 0), "finite"),
    "edges missing": (put("boosted", "edges", []), "edges"),
    "crosses of one field": (
        put("boosted", "crosses", [tuple_of(0)]),
        "crosses of the boosted trees",
    ),
    "crosses of a field twice": (
        put("boosted", "crosses", [tuple_of(1, 1)]),
        "crosses of the boosted trees",
    ),
    "crosses of numbers that are true": (
        put("boosted", "crosses", [tuple_of(True, 0)]),
        "crosses of the boosted",
    ),
    "other crosses than the statistics": (
        put("boosted", "crosses", [tuple_of(0, 2)]),
        "of one target, for",
    ),
    "sizes": (put("statistics", "sizes", [7, 7, 7, 10**9]), "sizes must be"),
    "smoothing": (put("statistics", "smoothing", -1.0), "smoothing"),
    "combinations beyond": (
        another("statistics", "combinations", at(-1, 100), 0),
        "combinations must be rising",
    ),
    "combinations that fall": (
        another("statistics", "combinations", lambda a: a[::-1], 0),
        "must be rising",
    ),
    "no combinations": (another("statistics", "combinations", lambda a: a[:0], 0), "one at least"),
    "means of two targets": (
        another("statistics", "means", lambda a: np.repeat(a, 2, 1), 0),
        "means must be",
    ),
    "means that are not finite": (
        another("statistics", "means", at((0, 0), np.nan), 0),
        "means must be",
    ),
    "counts of another length": (
        another("statistics", "counts", lambda a: a[:-1], 0),
        "counts must be",
    ),
    "a prior beyond float32": (
        another("statistics", "prior", at(0, 1e300)),
        "prior must be finite",
    ),
    "two priors": (another("statistics", "prior", lambda a: np.repeat(a, 2)), "means must be"),
    "no trees": (put("boosted", "trees", []), "trees must be"),
    "features": (put("trees", "n_features", 99), "features of the trees"),
    "features as a float": (
        lambda f: f.trees.update(n_features=float(f.trees["n_features"])),
        "features of the trees",
    ),
    "a start beyond": (put("trees", "start", 1e300), "start of the trees"),
    "roots beyond the nodes": (trees(roots=at(-1, 10**6)), "roots must be"),
    "roots that fall": (trees(roots=lambda a: a[::-1]), "roots must be rising"),
    "roots of another type": (trees(roots=lambda a: a.astype("i8")), "roots must be"),
    "a feature below zero": (trees(feature=at(0, -1)), "feature of the trees must be"),
    "a feature beyond": (trees(feature=at(0, 999)), "feature of the trees must be"),
    "a threshold that is no number": (
        trees(threshold=at(0, np.nan)),
        "threshold of the trees must be numbers",
    ),
    "thresholds missing": (trees(threshold=lambda a: a[:-1]), "threshold of the trees must be"),
    "a child beyond": (trees(left=at(0, 10**6)), "nodes before their children"),
    "a child before its parent": (
        trees(left=lambda a: at(np.flatnonzero(a != np.arange(len(a)))[1], 0)(a)),
        "nodes",
    ),
    "one child twice": (
        lambda f: f.put(f.trees["left"], f.array(f.trees["right"])),
        "children of one node each",
    ),
    "a leaf beyond sums": (trees(value=at(-1, 1e150)), "value of the trees must be within"),
    "a leaf that is not finite": (trees(value=at(-1, np.inf)), "finite"),
    "sides as numbers": (
        trees(missing_left=lambda a: a.astype("u1")),
        "missing_left of the trees must be",
    ),
    "a chain beside many leaves": (chain_of_trees, f"at most {DEEPEST} steps"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_parts_are_refused(data, name):
    change, message = FORGED[name]
    forgery = Forgery(data)
    assert forgery.data() == data  # what is refused is refused for the change
    change(forgery)
    with pytest.raises(ModelFileError, match=message):
        _loads(forgery.data())


def test_an_infinite_threshold_is_no_forgery(model, data):
    """It sends all numbers one way; scikit-learn grows such nodes where missing values alone go the
    other.
    """
    forgery = Forgery(data)
    trees(threshold=at(0, np.inf))(forgery)
    assert np.isfinite(_loads(forgery.data()).predict(table()[0])).all()


def test_keys_of_one_hash_are_refused():
    """-1 and -2 have one hash: a set of the tuples of them would take quadratic time. Positions are
    never negative, so that the hash of the keys is met by keys that are refused for it before their
    positions are compared."""
    n = 14
    colliding = [tuple(-1 - (i >> b & 1) for b in range(n)) for i in range(2**n)]
    assert len({hash(key) for key in colliding}) == 1
    state = dict.fromkeys(statistics_of_files.STATE) | {"keys": colliding}
    began = time.process_time()
    with pytest.raises(
        ModelFileError, match="keys must be different tuples of different positions below 3"
    ):
        restored_statistics(state, [4, 4, 4], "The statistics")
    assert time.process_time() - began < 1


def test_keys_that_hash_alike_though_valid_are_refused(monkeypatch):
    """Should positions be found that collide, the reader must not put them into a set before it has
    counted hashes.
    """

    class Alike(tuple):
        def __hash__(self):
            return 1

    keys = [Alike((i, j)) for i in range(40) for j in range(40) if i != j]
    state = dict.fromkeys(statistics_of_files.STATE) | {"keys": keys}
    with pytest.raises(ModelFileError, match="1560 keys of the same hash"):
        restored_statistics(state, [4] * 40, "The statistics")


def test_tables_of_combinations_cost_memory_in_proportion():
    """Each key has a table of all its combinations: many keys of a single seen one would make a
    small file large.
    """
    n_fields = 150
    keys = [(i, j) for i in range(n_fields) for j in range(n_fields) if i != j]
    n = len(keys)
    state = {
        "keys": keys,
        "smoothing": 1.0,
        "method": "folds",
        "n_folds": 2,
        "sizes": [64] * n_fields,
        "prior": np.zeros(1),
        "combinations": [np.array([5], np.uint8)] * n,
        "means": [np.zeros((1, 1), np.float32)] * n,
        "counts": [np.ones(1, np.float32)] * n,
    }
    with pytest.raises(ModelFileError, match="tables must be of at most"):
        restored_statistics(state, [64] * n_fields, "The statistics")
    few = state | {name: state[name][:5000] for name in ("keys", "combinations", "means", "counts")}
    assert restored_statistics(few, [64] * n_fields, "The statistics").n_columns == 10_000


def test_keys_of_many_fields_cost_time_in_proportion():
    """The number of combinations of a hundred thousand fields has a million digits."""
    n = 100_000
    state = {
        "keys": [tuple(range(n))],
        "smoothing": 1.0,
        "method": "folds",
        "n_folds": 2,
        "sizes": [2**30] * n,
        "prior": np.zeros(1),
        "combinations": [np.array([5])],
        "means": [np.zeros((1, 1), np.float32)],
        "counts": [np.ones(1, np.float32)],
    }
    began = time.process_time()
    assert restored_statistics(state, [2**30] * n, "The statistics").n_columns == 2
    assert time.process_time() - began < 1


@pytest.mark.parametrize("depth", [1, DEEPEST, DEEPEST + 1])
def test_trees_have_a_deepest_leaf(depth):
    own = np.arange(2 * depth + 1)
    left, right = own.copy(), own.copy()
    inner = np.arange(0, 2 * depth, 2)
    left[inner], right[inner] = inner + 1, inner + 2
    if depth <= DEEPEST:
        check_forest(np.array([0]), left, right, "trees")
    else:
        with pytest.raises(ModelFileError, match=f"at most {DEEPEST} steps"):
            check_forest(np.array([0]), left, right, "trees")
