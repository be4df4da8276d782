"""A categorical column and the lists of its values have one vocabulary, in every way to fit."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sklearn_autorec import CTRClassifier
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, onnx_inputs, save
from sklearn_autorec.serving._encoder import encoder_state, restore_encoder
from sklearn_autorec.serving._onnx import vocabulary_of

SHARE = {"history": "item"}


def table(n=400, seed=0, text=False):
    rng = np.random.default_rng(seed)
    name = (lambda i: f"i{i}") if text else int
    items = [name(i) for i in rng.geometric(0.1, n)]
    history = [[name(i) for i in rng.geometric(0.2, k) + 3] for k in rng.integers(0, 6, n)]
    return pd.DataFrame(
        {"x": rng.normal(size=n), "history": history, "item": items, "other": ["a", "b"] * (n // 2)}
    )


def ids_by_hand(X, least=1, most=None):
    """Ids by the counts of both columns together."""
    cells = pd.Series([*X["item"], *(v for row in X["history"] for v in row)])
    counts = cells.value_counts()
    order = sorted(counts.index, key=lambda v: (-counts[v], v))
    kept = [v for v in order if counts[v] >= least][:most]
    return {v: 2 + k for k, v in enumerate(kept)}


def check(encoder, X, ids):
    encoded = encoder.encode(X)
    column = list(encoder.field_names_[: len(encoder.n_ids_)]).index("item")
    assert encoded.ids[:, column].tolist() == [ids.get(v, 1) for v in X["item"]]
    for row, items in zip(encoded.sequences, X["history"], strict=True):
        assert row[: len(items)].tolist() == [ids.get(v, 1) for v in items]
        assert not row[len(items) :].any()


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("limits", [{}, {"min_frequency": 5}, {"max_categories": 4}])
def test_one_value_has_one_id(limits, text):
    X = table(text=text)
    encoder = FieldEncoder(shared_vocabularies=SHARE, **limits).fit(X)
    ids = ids_by_hand(X, limits.get("min_frequency", 1), limits.get("max_categories"))
    check(encoder, X, ids)
    check(encoder, X[:3].reset_index(drop=True), ids)  # cell by cell
    assert encoder.shared_with_ == (0,) and encoder.kinds_["item"] == "id"
    assert encoder.categories_[0].tolist() == encoder.sequence_categories_[0].tolist() == [*ids]
    own = X["item"].map(lambda v: ids.get(v, 1)).value_counts()
    assert encoder.counts_[0].tolist() == [own.get(k, 0) for k in range(2 + len(ids))]
    items = pd.Series([ids.get(v, 1) for row in X["history"] for v in row]).value_counts()
    assert encoder.sequence_counts_[0].tolist() == [items.get(k, 0) for k in range(2 + len(ids))]
    gaps = X.assign(item=X["item"].where(np.arange(len(X)) % 9 > 0, None))
    gaps = FieldEncoder(shared_vocabularies=SHARE, **limits).fit(gaps)
    assert gaps.counts_[0][0] == 45 and gaps.sequence_counts_[0][0] == 0
    alone = FieldEncoder(**limits).fit(X)
    assert alone.shared_with_ == (None,)
    assert alone.categories_[0].tolist() != encoder.categories_[0].tolist()


@pytest.mark.parametrize("options", [{}, {"hash_threshold": 10, "n_hash_buckets": 7}])
def test_chunks_and_weights_are_as_the_whole(options):
    X = table()
    whole = FieldEncoder(shared_vocabularies=SHARE, **options).fit(X)
    weight = np.random.default_rng(0).integers(0, 4, len(X)).astype(float)
    for size in (1, 7, 150):
        parts = FieldEncoder(shared_vocabularies=SHARE, **options)
        heavy = FieldEncoder(shared_vocabularies=SHARE, **options)
        for start in range(0, len(X), size):
            parts.partial_fit(X[start : start + size])
            heavy.partial_fit(X[start : start + size], sample_weight=weight[start : start + size])
        np.testing.assert_array_equal(parts.transform(X), whole.transform(X))
        for got, wanted in zip(parts.counts_, whole.counts_, strict=True):
            np.testing.assert_array_equal(got, wanted)
        repeated = FieldEncoder(shared_vocabularies=SHARE, **options)
        repeated.fit(X.loc[np.repeat(X.index, weight.astype(int))])
        np.testing.assert_array_equal(heavy.transform(X)[:, :2], repeated.transform(X)[:, :2])
        np.testing.assert_array_equal(heavy.sequence_counts_[0], repeated.sequence_counts_[0])
    if options:
        # As a column counts that shares nothing.
        alone = FieldEncoder(**options).fit(X)
        np.testing.assert_array_equal(whole.counts_[0], alone.counts_[0])
        np.testing.assert_array_equal(whole.sequence_counts_[0], alone.sequence_counts_[0])
        assert not len(whole.categories_[0]) and whole.n_ids_[0] == whole.sequence_n_ids_[0] == 9
        new = table(seed=1)[:50].assign(item=lambda t: t["item"] + 10**6)
        new["history"] = [[v] for v in new["item"]]
        encoded = whole.encode(new)
        np.testing.assert_array_equal(encoded.ids[:, 0], encoded.sequences[:, 0])
        assert len(np.unique(encoded.ids[:, 0])) > 3


def test_a_list_and_a_column_of_other_types_are_told_from_each_other():
    """Integers here and text there: the common vocabulary is of text, as in one column."""
    X = pd.DataFrame({"item": [1, 2, 3, 1], "history": [["1", "4"], [], ["2"], ["1"]]})
    encoder = FieldEncoder(shared_vocabularies=SHARE).fit(X)
    assert encoder.categories_[0].tolist() == ["1", "2", "3", "4"]
    encoded = encoder.encode(X)
    assert encoded.ids[:, 0].tolist() == [2, 3, 4, 2]
    assert encoded.sequences[:, :2].tolist() == [[2, 5], [0, 0], [3, 0], [2, 0]]
    assert encoder.inverse_transform(encoded.ids).ravel().tolist() == ["1", "2", "3", "1"]


def test_several_lists_share_one_column_and_positions_are_names_too():
    X = table(60)
    X["liked"] = X["history"].map(lambda row: row[::-1])
    for share in ({"history": "item", "liked": "item"}, {1: 2, 4: 2}):
        encoder = FieldEncoder(shared_vocabularies=share).fit(X)
        assert encoder.shared_with_ == (0, 0) and len(set(encoder.sequence_n_ids_)) == 1
    text = X.assign(history=X["history"].map(lambda row: "|".join(map(str, row))))
    for sequences in ({"history": "|", "liked": " "}, {"history": "|"}):
        text = text.assign(liked=" ") if len(sequences) == 2 else text.drop(columns="liked")
        encoder = FieldEncoder(sequence_features=sequences, shared_vocabularies=SHARE).fit(text)
        assert encoder.shared_with_[0] == 0


@pytest.mark.parametrize(
    "share, options, told",
    [
        ({"x": "item"}, {}, "'x' must hold ids or lists of ids, but is 'number'"),
        ({"history": "x"}, {"categorical_features": {"x": "number"}}, "'x' must hold ids"),
        ({"history": "item", "item": "other"}, {}, "it can be one of them"),
        ({"history": "item", "item": "history"}, {}, "it can be one of them"),
        ({"history": ["item", "other"]}, {}, "must name one column for each"),
        ({"history": "item"}, {"categorical_features": ["other"]}, "'item' must hold ids"),
        ({"history": "history"}, {}, "it can be one of them"),
        ({"history": "nothing"}, {}, "shared_vocabularies has 'nothing'"),
        ({"history": "item", 1: "item"}, {}, "names a column that shares twice"),
        ({"history": "when"}, {"categorical_features": {"when": "id"}}, "'when' holds times"),
        ("history", {}, "shared_vocabularies"),
    ],
    ids=str,
)
def test_what_cannot_share_is_refused(share, options, told):
    X = table(20).assign(when=pd.date_range("2020-01-01", periods=20))
    with pytest.raises(ValueError, match=told):
        FieldEncoder(shared_vocabularies=share, **options).fit(X)


@pytest.mark.parametrize("counts", [True, False])
def test_it_comes_back_from_pickles_and_files(counts, tmp_path):
    X = table()
    encoder = FieldEncoder(shared_vocabularies=SHARE).partial_fit(X)
    if not counts:
        encoder.discard_counts()
    save(encoder, tmp_path / "encoder")
    for again in (pickle.loads(pickle.dumps(encoder)), load(tmp_path / "encoder")):
        assert again.shared_with_ == (0,)
        np.testing.assert_array_equal(again.transform(X), encoder.transform(X))
        np.testing.assert_array_equal(again.sequence_counts_[0], encoder.sequence_counts_[0])
        if counts:
            more = table(seed=3)
            again.partial_fit(more)
            both = FieldEncoder(shared_vocabularies=SHARE).fit(pd.concat([X, more]))
            np.testing.assert_array_equal(again.transform(X), both.transform(X))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(shared={}),
        lambda s: s.update(shared=[1]),
        lambda s: s.update(shared={1: 9}),
        lambda s: s.update(shared={1: True}),
        lambda s: s.update(shared={2: 1}),
        lambda s: s.update(shared={1: 0}),
        lambda s: s.update(shared={1: 1}),
        lambda s: s["fields"][1].update(counts=np.ones(3, np.int64)),
        lambda s: s["fields"][1].update(kind="i"),
        lambda s: s.pop("shared"),
    ],
)
def test_a_state_that_cannot_be_is_refused(change):
    encoder = FieldEncoder(shared_vocabularies=SHARE).fit(table())
    good = encoder_state(encoder)
    fresh = clone(encoder)
    restore_encoder(fresh, good)
    np.testing.assert_array_equal(fresh.transform(table()), encoder.transform(table()))
    bad = {**good, "fields": [dict(field) for field in good["fields"]]}
    change(bad)
    with pytest.raises(ModelFileError):
        restore_encoder(clone(encoder), bad)


def test_models_have_one_table(tmp_path):
    """In files, frozen encoders and the inputs of an ONNX graph alike."""
    X = table()
    y = (np.arange(len(X)) % 3 == 0).astype(int)
    options = {"network": "fm", "embedding_dim": 4, "max_epochs": 1, "random_state": 0}
    encoder = FieldEncoder(shared_vocabularies=SHARE)
    model = CTRClassifier(encoder=encoder, **options).fit(X, y)
    n_ids = sum(model.encoder_.n_ids_)
    assert model.net_.module_.embedding.weight.shape == (n_ids, 4)
    p = model.predict_proba(X)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X), p)
    assert again.compression_ratio_ == model.compression_ratio_ == 1
    frozen = CTRClassifier(encoder=FrozenEstimator(model.encoder_), **options).fit(X, y)
    assert frozen.net_.module_.embedding.weight.shape == (n_ids, 4)
    vocabulary = json.loads(json.dumps(vocabulary_of(model)))
    columns = {column["name"]: column for column in vocabulary["columns"]}
    owner = vocabulary["columns"][columns["history"]["shares"]]
    assert owner is columns["item"] and "ids" not in columns["history"]
    rows = onnx_inputs(vocabulary, X.to_dict("records"))
    encoded = model.encoder_.encode(X)
    np.testing.assert_array_equal(rows["ids"], encoded.ids)
    np.testing.assert_array_equal(rows["sequences"], encoded.sequences)


@pytest.mark.parametrize("threshold", [2, 3, 5])
def test_columns_that_are_hashed_only_together_count_as_hashed(threshold):
    """Three values each, six together: neither is hashed alone where the threshold is three."""
    X = pd.DataFrame({"item": [1, 2, 3, 1], "history": [[4, 4], [5], [], [6]]})
    encoder = FieldEncoder(shared_vocabularies=SHARE, hash_threshold=threshold, n_hash_buckets=50)
    encoded = encoder.fit_encode(X)
    ids, items = encoded.ids[:, 0], encoded.sequences[encoded.sequences > 0]
    assert ids.min() > 1 and items.min() > 1 and encoder.n_ids_ == [52]
    assert encoder.counts_[0].tolist() == np.bincount(ids, minlength=52).tolist()
    assert encoder.sequence_counts_[0].tolist() == np.bincount(items, minlength=52).tolist()
    np.testing.assert_array_equal(encoder.encode(X).sequences, encoded.sequences)
