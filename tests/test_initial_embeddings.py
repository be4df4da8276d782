"""Vectors with which embedding tables start, and vectors that never move."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.embedding import PEP
from sklearn_autorec.engine._optimizers import RowAdam
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.feature_selection import AutoField, OptFS
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.nn import BuildContext, Inputs
from sklearn_autorec.nn._given import GivenVectors, plain_embedding
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save
from sklearn_autorec.serving._frozen import check_frozen

ENCODER = FieldEncoder(categorical_features=["item", "shop"], max_categories=100)
OPTIONS = {
    "network": "fm",
    "encoder": ENCODER,
    "embedding_dim": 4,
    "max_epochs": 2,
    "lr": 0.05,
    "embedding_l2": 0.1,
    "weight_decay": 0.1,
    "device": "cpu",
    "random_state": 0,
}


def table(n=300, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"shop": rng.choice(["a", "b", "c"], n), "item": rng.integers(0, 20, n)})
    X["price"] = rng.normal(size=n)
    return X, (X["item"] % 3 == 0).to_numpy().astype(int)


def vectors(values=range(30), seed=1):
    values = list(values)
    drawn = np.random.default_rng(seed).normal(size=(len(values), 4)).astype(np.float32)
    # So small that they would be flushed to zero, if they were not frozen.
    drawn[::7] *= 1e-20
    return pd.DataFrame(drawn, index=values)


def model(frame=None, frozen=True, **options):
    frame = vectors() if frame is None else frame
    return CTRClassifier(
        initial_embeddings={"item": frame},
        frozen_embeddings=["item"] if frozen else None,
        **{**OPTIONS, **options},
    )


def check_frozen_rows(fitted, frame):
    got = fitted.get_embeddings("item")
    if got.columns.nlevels == 2:
        for member in got.columns.levels[0]:
            np.testing.assert_array_equal(got[member].loc[frame.index], frame)
    else:
        np.testing.assert_array_equal(got.loc[frame.index], frame)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"network": "dcn", "averaging": 0.9, "lr_schedule": "cosine"},
        {"members": 3},
        {"batch_size": 1},  # row-wise gradients
        {"batch_size": 16},  # 32 steps, after which vanishing weights become zeros
        {"search": AutoFIS(), "search_epochs": 2},
        {"search": AutoField(), "search_epochs": 2},
        {"network": "auto", "max_epochs": 1, "early_stopping": False},
        {"quantization_aware": False, "warm_start": True},
    ],
    ids=str,
)
def test_frozen_vectors_do_not_move_by_a_bit(options, tmp_path):
    X, y = table({1: 60, 16: 256}.get(options.get("batch_size"), 300))
    frame = vectors()
    fitted = model(frame, **options).fit(X, y)
    if options.get("batch_size") == 1:
        assert fitted.net_.module_.embedding.sparse
    check_frozen_rows(fitted, frame)
    others = fitted.get_embeddings("item").drop(frame.index)
    assert others.index.tolist() == ["<missing>", "<unknown>"]
    fitted.partial_fit(X, y)
    check_frozen_rows(fitted, frame)
    again = pickle.loads(pickle.dumps(fitted))
    save(fitted, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.initial_embeddings is None
    p = fitted.predict_proba(X)
    for other in (again, loaded):
        np.testing.assert_array_equal(other.predict_proba(X), p)
        other.set_params(warm_start=False).partial_fit(X, y)
        check_frozen_rows(other, frame)
        assert (other.predict_proba(X) != p).any()


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("members", [1, 2])
def test_frozen_rows_are_back_after_every_step(sparse, members):
    given = GivenVectors("f", np.array([2, 4]), np.array([[1.0, 2.0], [3.0, 4.0]]), True)
    moving = GivenVectors("g", np.array([0]), np.array([[5.0, 6.0]]), False)
    context = BuildContext(
        ("f", "g"),
        (6, 3),
        embedding_dim=2,
        sparse_gradients=sparse,
        members=members,
        given_vectors=(given, moving),
    )
    table = plain_embedding(context)
    start = table.weight.detach().clone().view(9, members, 2)
    for member in range(members):
        assert start[[2, 4, 6], member].tolist() == [[1, 2], [3, 4], [5, 6]]
    steps = RowAdam if sparse else torch.optim.Adam
    optimizer = steps([table.weight], lr=0.1, weight_decay=0.1)
    ids = torch.tensor([[2, 0], [3, 0], [4, 1]] * members, dtype=torch.int32)
    for _ in range(3):
        table.set_progress(0.0)
        optimizer.zero_grad()
        inputs = Inputs(ids, torch.zeros(len(ids), 0), torch.zeros(len(ids), 0))
        (table(inputs) ** 2).sum().backward()
        optimizer.step()
        table.after_step()
        now = table.weight.detach().view(9, members, 2)
        assert torch.equal(now[[2, 4]], start[[2, 4]])
        assert (now[[3, 6]] != start[[3, 6]]).all()
    assert table.compact() is table and table._held is None
    assert torch.equal(table.weight.detach().view(9, members, 2)[[2, 4]], start[[2, 4]])


def test_frozen_vectors_are_rounded_once_in_another_storage():
    X, y = table()
    frame = vectors()
    fitted = model(frame, storage="int8").fit(X, y)
    stored = fitted.get_embeddings("item").loc[frame.index]
    np.testing.assert_allclose(stored, frame, atol=0.02)
    fitted.partial_fit(X, y).partial_fit(X, y)
    np.testing.assert_array_equal(fitted.get_embeddings("item").loc[frame.index], stored)


def test_given_vectors_move_from_where_they_start():
    X, y = table()
    frame = vectors()
    still = model(frame, frozen=False, lr=1e-12, embedding_l2=0.0).fit(X, y)
    moved = model(frame, frozen=False, embedding_l2=0.0).fit(X, y)
    values = sorted(X["item"].unique())
    assert len(values) == 20  # what the frame has beyond them is dropped
    for fitted in (still, moved):
        assert sorted(fitted.get_embeddings("item").index[2:]) == values
    np.testing.assert_allclose(
        still.get_embeddings("item").loc[values], frame.loc[values], atol=1e-6
    )
    assert (moved.get_embeddings("item").loc[values] != frame.loc[values]).all(axis=None)
    # Everything else starts as it does without.
    plain = CTRClassifier(**{**OPTIONS, "lr": 1e-12, "embedding_l2": 0.0}).fit(X, y)
    for column in ("shop", "item"):
        a, b = (
            m.get_embeddings(column).iloc[: 2 if column == "item" else None] for m in (still, plain)
        )
        np.testing.assert_allclose(a, b, atol=1e-6)
    # Searches start from them, too.
    searched = model(frame, frozen=False, search=OptFS(0.01), lr=1e-12, search_epochs=1)
    kept = searched.fit(X, y).get_embeddings("item")
    dropped = (kept == kept.loc["<unknown>"]).all(axis=1)
    assert (~dropped).sum() > 5
    known = kept.index[~dropped & ~kept.index.isin(["<missing>", "<unknown>"])]
    np.testing.assert_allclose(kept.loc[known], frame.loc[known], atol=1e-5)


def test_frozen_rows_stay_in_place_where_values_are_dropped(tmp_path):
    X, y = table(600)
    frame = vectors()
    fitted = model(frame, search=OptFS(0.3), search_epochs=2).fit(X, y)
    kept = fitted.selected_values_["item"]
    assert 0 < len(kept) < 30
    for _ in range(2):
        np.testing.assert_array_equal(fitted.get_embeddings("item").loc[kept], frame.loc[kept])
        save(fitted, tmp_path / "model")
        fitted = load(tmp_path / "model").partial_fit(X, y)


def test_they_go_out_and_in_again():
    X, y = table()
    X.loc[::9, "shop"] = None
    first = CTRClassifier(**OPTIONS).fit(X, y)
    frames = {column: first.get_embeddings(column) for column in ("item", "shop")}
    second = CTRClassifier(initial_embeddings=frames, frozen_embeddings=["shop", "item"], **OPTIONS)
    second.fit(X, y)
    for column, frame in frames.items():
        pd.testing.assert_frame_equal(second.get_embeddings(column), frame)
    again = clone(second).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), second.predict_proba(X))


def test_values_that_training_lacks_are_served_where_they_are_frozen():
    X, y = table()
    fitted = model(vectors([*range(5, 30)])).fit(X, y)
    values = fitted.get_embeddings("item").index
    assert {*range(30)} <= {*values} and fitted.encoder_.counts_[1][-10:].sum() == 0
    new = X[:3].assign(item=[25, 26, 99])
    assert len(np.unique(fitted.encoder_.encode(new).ids[:, 1])) == 3
    rare = FieldEncoder(categorical_features=["item", "shop"], min_frequency=20)
    fitted = model(encoder=rare).fit(X, y)
    assert {*fitted.get_embeddings("item").index[2:]} == {*range(30)}
    counts = dict(zip(fitted.encoder_.categories_[1], fitted.encoder_.counts_[1][2:], strict=True))
    assert counts == {v: int((X["item"] == v).sum()) for v in range(30)}
    # A frozen encoder keeps its values.
    frozen = model(encoder=FrozenEstimator(clone(ENCODER).fit(X))).fit(X, y)
    assert {*frozen.get_embeddings("item").index[2:]} == {*range(20)}


def described_items(n, seed, informative):
    """Items whose effects are told by their vectors; the second half is never trained on."""
    rng = np.random.default_rng(3)
    told = rng.normal(size=(400, 4))
    effect = (told if informative else rng.normal(size=(400, 4))) @ [2.0, -2.0, 1.0, 0.0]
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 200, n) + 200 * seed
    X = pd.DataFrame({"item": items, "shop": rng.choice(["a", "b"], n)})
    frame = pd.DataFrame(told, index=range(400))
    return X, (rng.random(n) < 1 / (1 + np.exp(-effect[items]))).astype(int), frame


@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.UnknownCategoryWarning")
def test_items_never_seen_are_predicted_by_their_vectors():
    """The control has vectors that tell nothing of the items."""

    def gain(informative):
        (X, y, frame), (X_new, y_new, _) = (described_items(2000, s, informative) for s in (0, 1))
        options = {**OPTIONS, "embedding_l2": 0.01, "max_epochs": 5}
        plain = CTRClassifier(**options).fit(X, y)
        given = model(frame, **options).fit(X, y)
        losses = [log_loss(y_new, m.predict_proba(X_new)[:, 1]) for m in (plain, given)]
        return losses[0] - losses[1]

    assert gain(True) > 0.1 > gain(False)


def test_shared_columns_lists_and_growth_keep_frozen_rows():
    X, y = table()
    X["seen"] = [[v, 24] for v in X["item"]]
    frame = vectors(range(25))
    fitted = model(frame, shared_vocabularies={"seen": "item"}, new_categories="grow")
    fitted.partial_fit(X, y, classes=[0, 1]).partial_fit(X.assign(item=77), y)
    assert 77 in fitted.get_embeddings("seen").index
    for column in ("item", "seen"):
        np.testing.assert_array_equal(fitted.get_embeddings(column).loc[frame.index], frame)
    by_list = RatingRegressor(
        initial_embeddings={"seen": frame}, frozen_embeddings=["seen"], **OPTIONS
    ).fit(X, y)
    np.testing.assert_array_equal(by_list.get_embeddings("seen").loc[frame.index], frame)
    with pytest.raises(ValueError, match="'item' and 'seen', which share one table"):
        fitted.set_params(initial_embeddings={"item": frame, "seen": frame}).fit(X, y)


@pytest.mark.parametrize(
    "options, told",
    [
        (
            {"initial_embeddings": {"item": vectors().iloc[:, :3]}},
            "vectors of 3 numbers.*'item'.*=4",
        ),
        ({"initial_embeddings": {"item": vectors().to_numpy()}}, r"\['item'\] must be a pandas"),
        ({"initial_embeddings": {"item": vectors().replace(0, np.nan) * np.inf}}, "finite"),
        ({"initial_embeddings": {"item": vectors().astype(str) + "x"}}, "must hold numbers"),
        ({"initial_embeddings": {"item": vectors([1, "1", 2])}}, "more than one row for a value"),
        ({"initial_embeddings": {"item": vectors(["u", "v"])}}, "no row for a value"),
        (
            {"initial_embeddings": {"thing": vectors()}, "frozen_embeddings": []},
            "'thing', which is no column",
        ),
        (
            {"initial_embeddings": {"price": vectors()}, "frozen_embeddings": []},
            "'price', a column of numbers",
        ),
        ({"frozen_embeddings": ["shop"]}, "'shop', which has no vectors"),
        ({"frozen_embeddings": "item"}, "must be an array-like or None"),
        ({"search": PEP()}, "PEP"),
        ({"network": "ffm"}, "FFM"),
        ({"network": "lr"}, "LR"),
        (
            {"encoder": FieldEncoder(categorical_features=["item"], hash_threshold=3)},
            "'item', a hashed column",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_what_no_table_could_start_from_is_refused(options, told):
    X, y = table(80)
    X = X.drop(columns="shop") if "encoder" in options else X
    with pytest.raises(ValueError, match=told):
        model().set_params(**options).fit(X, y)


def test_many_values_without_a_vector_are_told():
    X, y = table()
    with pytest.warns(UserWarning, match=r"no row for 60% of the 20 values of column 'item'"):
        fitted = model(vectors(range(8))).fit(X, y)
    check_frozen_rows(fitted, vectors(range(8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(vectors(range(11))).fit(X, y)


@pytest.mark.parametrize(
    "frozen",
    [
        {"item": np.array([2, 1])},
        {"item": np.array([999])},
        {"price": np.array([2])},
        [1],
        {"item": np.array([2.0])},
        {"item": np.zeros(0, np.int64)},
    ],
    ids=str,
)
def test_files_that_freeze_what_is_not_there_are_refused(frozen):
    X, y = table(80)
    fitted = model().fit(X, y)
    context = BuildContext.of_encoder(fitted.encoder_)
    assert len(check_frozen({"item": np.array([2, 3])}, context)) == 1
    with pytest.raises(ModelFileError):
        check_frozen(frozen, context)
