"""Parts of networks tell what they are; nobody outside of the methods reads their architectures."""

import ast
import copy
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import sklearn_autorec
from sklearn_autorec import CTRClassifier, embedding
from sklearn_autorec._registry import METHODS
from sklearn_autorec.base import FixedArchitecture, SearchMethod
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, EqualSize
from sklearn_autorec.engine._serving_form import bytes_by_kind
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.feature_selection import AdaFS
from sklearn_autorec.interaction import AutoFeature, AutoFIS, RandomInteractions
from sklearn_autorec.nn import (
    PACKED_PARTS,
    BuildContext,
    FieldEmbedding,
    FieldNetwork,
    FieldRows,
    PackedPart,
    SumPool,
    own_bytes,
)
from sklearn_autorec.nn._read_rows import read_rows
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

ROOT = Path(sklearn_autorec.__file__).parent
SMALL = {
    "network": "fm",
    "embedding_dim": 4,
    "max_epochs": 1,
    "batch_size": 256,
    "early_stopping": False,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def clicks():
    return make_ctr(600, n_fields=4, cardinality=8, pairs=[(0, 1)], random_state=0)[:2]


# architectures
# --------------------------------------------------------------------------------------------------

# Keys that methods gave their architectures, and that others once read.
KEYS = {"mask", "widths", "interactions", "candidates", "scores", "operations", "probabilities"}
CHAPTERS = {
    "embedding",
    "interaction",
    "feature_selection",
    "losses",
    "transfer",
    "comprehensive",
    # Not about architectures: searches for crosses have candidates, and their files scores.
    "feature_crossing",
    "serving/_crossing.py",
    "serving/_aefe.py",
}
# Words that mean something else in other places, such as the fields of an encoder in a file.
WORDS = KEYS | {"fields", "values", "user", "rows"}


def keys_read(source, keys=WORDS):
    """Which keys a module reads of dicts: ``x["key"]``, ``x.get("key")``, ``"key" in x``."""
    read = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript):
            found = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found = node.args[:1] if node.func.attr in ("get", "pop", "setdefault") else []
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            found = [node.left]
        else:
            continue
        read |= {n.value for n in found if isinstance(n, ast.Constant) and n.value in keys}
    return read


def test_only_methods_read_the_keys_of_their_architectures():
    read = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not CHAPTERS & {name, name.partition("/")[0]}:
            strict = name.partition("/")[0] in ("base", "engine", "estimators", "inspection")
            read[name] = keys_read(path.read_text(encoding="utf-8"), WORDS if strict else KEYS)
    assert len(read) > 100 and {name: keys for name, keys in read.items() if keys} == {}
    # It sees what it looks for.
    assert keys_read('a["mask"]; b.get("widths", 1); "scores" in c; d["x"]') == {
        "mask",
        "widths",
        "scores",
    }
    assert keys_read((ROOT / "embedding" / "_masks.py").read_text(encoding="utf-8")) == {"mask"}


def test_methods_tell_scores_by_hooks_with_a_default():
    context = BuildContext(("a", "b"), (3, 3))
    method = EqualSize()
    assert method.interaction_scores({}, context) is None
    assert method.field_scores({}, context) is None and method.packed_entries is None
    known = {"interactions": [[0, 1]], "candidates": [[0, 1]], "scores": [0.5]}
    for own in (AutoFIS(), RandomInteractions(), AutoFeature()):
        assert own.interaction_scores(known, context) == {(0, 1): 0.5}
        assert own.interaction_scores({"interactions": []}, context) is None
    assert AdaFS().field_scores({"scores": [0.1, 0.9]}, context) == [0.1, 0.9]


# bytes
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 2])
def test_the_table_of_triples_is_one_of_embeddings(clicks, members):
    tuples = [[0, 1], [0, 1, 2], [1, 2, 3]]
    search = FixedArchitecture({"method": "AutoFIS", "params": {}, "interactions": tuples})
    model = CTRClassifier(search=search, **SMALL, members=members).fit(*clicks)
    one = CTRClassifier(**SMALL, members=members).fit(*clicks)
    table = one.nbytes_["embedding"]
    assert model.nbytes_["embedding"] == 2 * table and model.compression_ratio_ == 0.5
    assert one.compression_ratio_ == 1
    # The weights and statistics of three products; of the rest nothing has changed.
    assert model.nbytes_["network"] == one.nbytes_["network"] + members * 3 * 3 * 4
    both = CTRClassifier(search=[EqualSize(2), search], **SMALL, members=members).fit(*clicks)
    whole = both.nbytes_["embedding"] + both.nbytes_["projection"]
    assert both.nbytes_["embedding"] == table // 2 + table and whole < 2 * table
    assert both.compression_ratio_ == pytest.approx(table / whole)


class Counted(nn.Module):
    """A part of the interaction slot with a table and a map of its own."""

    out_dim = 1

    def __init__(self, context):
        super().__init__()
        self.table = FieldEmbedding(context)
        self.plain = nn.Parameter(torch.zeros(3))
        self.register_buffer("map", torch.zeros(5, dtype=torch.int32), persistent=False)

    def nbytes(self):
        return {**self.table.nbytes(), "index": 20, "network": 12}


def test_bytes_are_what_parts_say_and_else_what_their_state_holds():
    context = BuildContext(("a", "b"), (3, 4), embedding_dim=2)
    network = FieldNetwork(context, {})
    network.pool = SumPool(2, BuildContext(("a",), (3,), n_outputs=2))
    table = 4 * 7 * 2
    assert bytes_by_kind(network) == {
        "embedding": table,
        "projection": 0,
        "index": 0,
        "network": 4 * 4,
        "total": table + 16,
    }
    network.interaction = Counted(context)
    network.again = network.interaction  # shared, and not stored twice
    network.tied = nn.Linear(2, 2, bias=False)
    network.tied.weight = network.pool.mix.weight
    nbytes = bytes_by_kind(network)
    assert nbytes["embedding"] == 2 * table and nbytes["index"] == 20
    assert nbytes["network"] == 16 + 12 and nbytes["total"] == 2 * table + 48
    silent = nn.Module()  # an embedding part that says nothing
    silent.weight, silent.inner = nn.Parameter(torch.zeros(5)), FieldEmbedding(context)
    silent.register_buffer("map", torch.zeros(6, dtype=torch.int32))
    network = FieldNetwork(context, {"embedding": silent})
    nbytes = bytes_by_kind(network)
    assert (nbytes["embedding"], nbytes["index"], nbytes["network"]) == (20 + table, 24, 0)


# interactions
# --------------------------------------------------------------------------------------------------


def test_parts_tell_their_interactions_and_weights(clicks):
    tuples = [[1, 2, 3], [0, 3], [0, 1]]  # in an order of their own
    search = FixedArchitecture({"method": "AutoFIS", "params": {}, "interactions": tuples})
    for members in (1, 2):
        model = CTRClassifier(search=search, **SMALL, members=members).fit(*clicks)
        network = model.net_.module_ if members == 1 else model.net_.module_.networks[0]
        part, weight = network.interaction, network.interaction.weight.detach()
        if members > 1:
            weight = weight.mean(0)
        told = part.interactions()
        assert [fields for fields, _ in told] == [(1, 2, 3), (0, 3), (0, 1)]
        # Products of pairs stand before those of triples.
        np.testing.assert_allclose([w for _, w in told], weight[[2, 0, 1]])
        assert model.interactions_ == [("f1", "f2", "f3"), ("f0", "f3"), ("f0", "f1")]


def test_an_architecture_without_candidates_has_interactions_and_says_what_it_lacks(clicks):
    search = FixedArchitecture({"method": "AutoFIS", "params": {}, "interactions": [[0, 2]]})
    model = CTRClassifier(search=search, **SMALL).fit(*clicks)
    assert model.interactions_ == [("f0", "f2")]
    with pytest.raises(AttributeError, match="has kept no scores of interactions.*interactions_"):
        _ = model.interaction_scores_
    for other in (None, EqualSize(2)):
        plain = CTRClassifier(search=other, **SMALL).fit(*clicks)
        for name in ("interactions_", "interaction_scores_"):
            with pytest.raises(AttributeError, match="does not choose interactions"):
                getattr(plain, name)


# sizes
# --------------------------------------------------------------------------------------------------


def test_sizes_are_told_for_dropped_fields_and_values_too(clicks):
    X, y = clicks
    plain = CTRClassifier(**SMALL).fit(X, y)
    with pytest.raises(AttributeError, match="does not choose embedding sizes"):
        _ = plain.embedding_sizes_
    assert plain.net_.module_.embedding.sizes() == [4] * 4


# a form of its own
# --------------------------------------------------------------------------------------------------


class Numbered(FieldRows):
    """Rows through a map: row ``number[v]`` of ``weight`` for value v of all values."""

    def __init__(self, context, weight, number):
        super().__init__(context)
        self.context = context
        self.weight = nn.Parameter(weight)
        self.init_numbers(context, context.embedding_dim, context.embedding_init)
        self.register_buffer("number", number)

    def lookup(self, ids, rows, fields):
        return read_rows(self.weight, self.number[rows.long()])

    def sizes(self):
        return self.by_field(np.full(self.n_rows, self.weight.shape[1]), self.weight.shape[1])

    def nbytes(self):
        return own_bytes(self)


@pytest.fixture
def form(monkeypatch):
    """A method of the package, as it were, whose part is served in a form of its own: of each field
    the values behind the first share a row. The architecture would be as large as the table.
    """

    class RareRows(PackedPart, Numbered):
        __module__ = "sklearn_autorec.embedding"
        __qualname__ = "RareRows"
        form = "rare rows"

        @classmethod
        def from_arrays(cls, context, arrays):
            weight, number = arrays.get("weight"), arrays.get("number")
            wanted = {"weight", "number"} | ({"numeric_weight"} if context.n_numeric else set())
            if arrays.keys() != wanted or weight.ndim != 2 or number.shape != (context.n_rows,):
                raise ValueError("rare rows need a weight and a number for each row.")
            return cls(context, torch.from_numpy(weight.copy()), torch.from_numpy(number.copy()))

        def check(self):
            if ((self.number < 0) | (self.number >= len(self.weight))).any():
                raise ValueError("the number of a rare row is outside of the weight.")

    class SharedRows(Numbered):
        def compact(self):
            kept, number = self.number.unique(return_inverse=True)
            packed = RareRows(self.context, self.weight.detach()[kept], number.int())
            if self.n_numeric:
                packed.numeric_weight = self.numeric_weight
            return packed

    class SharesRows(SearchMethod):
        __module__ = "sklearn_autorec.embedding"
        __qualname__ = "SharesRows"
        slot = "embedding"
        packed_entries = {"rows": lambda part: part.number.tolist()}

        def __init__(self, n_own=3):
            self.n_own = n_own

        def search(self, problem):
            starts = problem.context.row_starts
            return {
                "rows": [
                    int(start + min(k, self.n_own))
                    for start, n in zip(starts, problem.context.table_sizes, strict=False)
                    for k in range(n)
                ]
            }

        def check(self, architecture, context):
            rows = architecture.get("rows")
            if not isinstance(rows, list) or len(rows) != context.n_rows:
                raise ValueError(f"rows must hold {context.n_rows} numbers, got {rows!r:.200}.")

        def realise(self, architecture, context):
            weight = torch.empty(context.n_rows, context.embedding_dim)
            weight.normal_(0, 0.01, generator=context.generator)
            return SharedRows(context, weight, torch.tensor(architecture["rows"]))

    for cls in (RareRows, SharesRows):  # that they can be pickled
        monkeypatch.setattr(embedding, cls.__name__, cls, raising=False)
    yield SharesRows
    PACKED_PARTS.pop("rare rows")
    METHODS._classes.pop("sklearn_autorec.embedding.SharesRows")
    METHODS._own_names.pop("SharesRows")


@pytest.mark.parametrize("members", [1, 2])
def test_a_new_form_needs_no_line_outside_of_its_method(form, clicks, tmp_path, members):
    X, y = clicks
    X = X.assign(number=np.arange(len(X)) % 7 / 7)
    encoder = FieldEncoder(categorical_features=["f0", "f1", "f2", "f3"])
    model = CTRClassifier(search=form(), encoder=encoder, members=members, **SMALL).fit(X, y)
    part = model.net_.module_.embedding
    assert part.form == "rare rows" and part.weight.shape == (4 * 4, 4)
    n_rows, numbers = sum(model.encoder_.n_ids_), 4 * part.numeric_weight.numel()
    assert model.nbytes_["embedding"] == members * (4 * 4 * 4 * 4 + numbers)
    assert model.nbytes_["index"] == members * 4 * n_rows  # a map of int32
    ratio = (4 * n_rows * 4 + numbers) / (4 * 16 * 4 + numbers + 4 * n_rows)
    assert model.compression_ratio_ == pytest.approx(ratio)
    for name, n_ids in zip(X, model.encoder_.n_ids_, strict=False):
        np.testing.assert_array_equal(model.embedding_sizes_[name], [4] * n_ids)
    # The part tells the entry; beside it nothing is stored.
    assert model._architecture["embedding"]["rows"] is None
    rows = model.architecture_["embedding"]["rows"]
    assert len(rows) == n_rows and len(set(rows)) == 16
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.net_.module_.embedding.form == "rare rows"
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.architecture_ == model.architecture_ and loaded.nbytes_ == model.nbytes_
    found = json.loads(json.dumps(model.architecture_))
    options = {name: value for name, value in SMALL.items() if name != "network"}
    known = CTRClassifier.from_architecture(found, encoder=encoder, members=members, **options)
    anew = known.fit(X, y)
    assert anew.nbytes_ == model.nbytes_ and anew.architecture_ == found
    loaded.partial_fit(X, y)
    assert (loaded.predict_proba(X) != model.predict_proba(X)).any()
    assert loaded.architecture_ == model.architecture_


def test_a_file_with_a_form_that_is_not_the_packages_is_refused(form, clicks, tmp_path):
    model = CTRClassifier(search=form(), **SMALL).fit(*clicks)
    save(model, tmp_path / "model")
    own = PACKED_PARTS["rare rows"]
    own.__module__ = "somewhere.else"
    with pytest.raises(ModelFileError, match="packed must be one of the forms"):
        load(tmp_path / "model")
    own.__module__ = "sklearn_autorec.embedding"
    form.packed_entries = None  # a method that packs nothing
    with pytest.raises(ModelFileError, match="of a part that its method packs"):
        load(tmp_path / "model")


def test_a_form_inside_of_a_part_cannot_be_saved(clicks, tmp_path):
    model = CTRClassifier(search=PEP(), **SMALL).fit(*clicks)
    outer = nn.Module()
    outer.inner = copy.deepcopy(model.net_.module_.embedding)
    model.net_.module_.interaction = outer
    with pytest.raises(TypeError, match=r"'interaction\.inner' of the network is packed"):
        save(model, tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = pickle.loads(pickle.dumps(CTRClassifier(search=PEP(), **SMALL).fit(*clicks)))
    assert isinstance(clicks[0], pd.DataFrame) and loaded.architecture_["embedding"]["mask"]
