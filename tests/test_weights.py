"""Weights of rows: zeros leave no trace, whole weights are repetitions, chunks weigh against each
other.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.utils.class_weight import compute_class_weight
from small_tables import visits

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

RNG = np.random.default_rng(0)
N = 1000
X = visits(RNG, N, n_users=15, n_items=8, n_tags=5, lengths=(0, 3))
Y = (RNG.random(N) < 1 / (1 + np.exp(-2 * RNG.normal(size=15)[X["user"].astype(int)]))).astype(int)
# A third of the rows are of robots: values, prices and labels that nobody else has.
ROBOTS = np.arange(N) % 3 == 0
SPOILT = X.assign(
    user=np.where(ROBOTS, "bot" + X["user"], X["user"]),
    price=np.where(ROBOTS, 1e6, X["price"]),
    tags=[["bot"] if robot else tags for robot, tags in zip(ROBOTS, X["tags"], strict=True)],
)
OPTIONS = {"network": "lr", "max_epochs": 2, "lr": 0.05, "random_state": 0, "device": "cpu"}


def containers():
    yield pytest.param(lambda frame: frame, id="pandas")
    yield pytest.param(lambda frame: pytest.importorskip("polars").from_pandas(frame), id="polars")
    yield pytest.param(
        lambda frame: pytest.importorskip("pyarrow").Table.from_pandas(frame), id="pyarrow"
    )
    yield pytest.param(lambda frame: frame.to_numpy(dtype=object), id="array")
    yield pytest.param(lambda frame: frame.to_numpy(dtype=object).tolist(), id="lists")


@pytest.mark.parametrize("container", list(containers()))
@pytest.mark.parametrize("kind", ["clicks", "classes", "ratings"])
def test_rows_of_weight_zero_leave_no_trace(kind, container):
    y = {"clicks": Y, "classes": np.arange(N) % 4 % 3, "ratings": Y + 0.1 * X["price"].to_numpy()}[
        kind
    ]
    # A label, or a scale, that must not be learned.
    y = np.where(ROBOTS, 7 if kind != "ratings" else 1e6, y)
    make = RatingRegressor if kind == "ratings" else CTRClassifier
    encoder = FieldEncoder(min_frequency=0.02, max_categories=10)
    own = {} if kind == "ratings" else {"class_weight": "balanced"}
    with_zeros = make(**OPTIONS, **own, encoder=encoder)
    with_zeros.fit(container(SPOILT), y, sample_weight=np.where(ROBOTS, 0.0, 2.0))
    without = make(**OPTIONS, **own, encoder=encoder).fit(
        container(SPOILT[~ROBOTS].reset_index(drop=True)),
        y[~ROBOTS],
        sample_weight=np.full((~ROBOTS).sum(), 2.0),
    )
    method = "predict" if kind == "ratings" else "predict_proba"
    table = container(X)
    np.testing.assert_array_equal(
        getattr(with_zeros, method)(table), getattr(without, method)(table)
    )
    assert not any(str(v).startswith("bot") for v in with_zeros.encoder_.categories_[0])
    if kind != "ratings":
        np.testing.assert_array_equal(with_zeros.classes_, without.classes_)


def test_a_class_of_weight_zero_is_known_but_not_learned():
    weight = {0: 1.0, 1: 1.0, 7: 0.0}
    y = np.where(ROBOTS, 7, Y)
    model = CTRClassifier(**OPTIONS, class_weight=weight).fit(SPOILT, y)
    assert model.classes_.tolist() == [0, 1, 7]
    assert not any(v.startswith("bot") for v in model.encoder_.categories_[0])
    assert (model.predict(X) != 7).all()


@pytest.mark.parametrize("numeric", ["quantile", "log_square", "standard"])
def test_whole_weights_are_repetitions_in_the_encoder(numeric):
    weight = RNG.integers(0, 5, N)
    rows = np.repeat(np.arange(N), weight)
    encoder = FieldEncoder(numeric=numeric, min_frequency=60, n_quantiles=20)
    weighted = FieldEncoder(**encoder.get_params()).fit(X, sample_weight=weight)
    repeated = FieldEncoder(**encoder.get_params()).fit(X.iloc[rows])
    for name in ("categories_", "counts_", "sequence_categories_", "sequence_counts_"):
        for a, b in zip(getattr(weighted, name), getattr(repeated, name), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
    np.testing.assert_array_equal(weighted.transform(X), repeated.transform(X))
    chunks = FieldEncoder(**encoder.get_params())
    for part in (slice(0, 300), slice(300, N)):
        chunks.partial_fit(X[part], sample_weight=weight[part])
    np.testing.assert_array_equal(weighted.transform(X), chunks.transform(X))
    assert not np.array_equal(
        weighted.transform(X), FieldEncoder(**encoder.get_params()).fit(X).transform(X)
    )


def test_weights_that_are_not_whole_order_and_cut_the_values(tmp_path):
    table = pd.DataFrame({"a": ["x", "x", "x", "y", "z"], "b": [1.0, 2.0, 3.0, 4.0, 5.0]})
    weight = [0.1, 0.1, 0.1, 0.75, 0.25]
    encoder = FieldEncoder().fit(table, sample_weight=weight)
    # Though none weighs as much as min_frequency=1.
    assert encoder.categories_[0].tolist() == ["y", "x", "z"]
    np.testing.assert_allclose(encoder.counts_[0], [0, 0, 0.75, 0.3, 0.25])
    assert FieldEncoder(min_frequency=0.2).fit(table, sample_weight=weight).categories_[
        0
    ].tolist() == ["y", "x"]
    pipe = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(pipe.transform(table), encoder.transform(table))
    np.testing.assert_array_equal(pipe.counts_[0], encoder.counts_[0])
    save(encoder, tmp_path / "encoder")
    read = load(tmp_path / "encoder").partial_fit(table, sample_weight=weight)
    np.testing.assert_allclose(read.counts_[0], [0, 0, 1.5, 0.6, 0.5])
    # The middle of the weight is the middle of the scale.
    light = FieldEncoder(numeric="quantile").fit(table, sample_weight=[1e-9, 1e-9, 1e-9, 0.5, 0.5])
    scaled = light.transform(table)[:, 1]
    np.testing.assert_allclose(scaled[3:], np.sqrt(12) * np.array([-0.25, 0.25]), atol=1e-6)


def test_an_encoder_skips_chunks_of_weight_zero():
    encoder = FieldEncoder().partial_fit(X)
    before = dict(vars(encoder))
    encoder.partial_fit(SPOILT, sample_weight=np.zeros(N))
    assert all(vars(encoder)[name] is v for name, v in before.items())
    with pytest.raises(ValueError, match="got only zeros"):
        encoder.fit(X, sample_weight=np.zeros(N))
    with pytest.raises(ValueError, match="[Nn]egative"):
        encoder.fit(X, sample_weight=np.full(N, -1.0))
    with pytest.raises(ValueError, match="shape"):
        encoder.partial_fit(X, sample_weight=np.zeros(3))


def through(how, model, folder):
    if how == "pickle":
        return pickle.loads(pickle.dumps(model))
    if how == "file":
        save(model, folder / "model")
        return load(folder / "model")
    return model


@pytest.mark.parametrize("how", ["live", "pickle", "file"])
@pytest.mark.parametrize("start", ["fit", "partial_fit"])
def test_chunks_weigh_against_each_other(start, how, tmp_path):
    def stream(weight):
        model = CTRClassifier(**{**OPTIONS, "max_epochs": 6})
        for _ in range(6 if start == "partial_fit" else 0):
            model.partial_fit(X, Y, classes=[0, 1])
        model = through(how, model if start == "partial_fit" else model.fit(X, Y), tmp_path)
        for _ in range(4):
            model.partial_fit(X, 1 - Y, sample_weight=np.full(N, weight))
        return roc_auc_score(Y, model.predict_proba(X)[:, 1])

    assert stream(1e-6) > 0.7 > 0.4 > stream(1.0)


@pytest.mark.parametrize("kind", [CTRClassifier, RatingRegressor])
def test_the_unit_of_weights_hardly_matters(kind):
    def stream(unit):
        model = kind(**OPTIONS)
        options = {"classes": [0, 1]} if kind is CTRClassifier else {}
        for k in range(1, 4):
            model.partial_fit(X, Y, sample_weight=np.full(N, unit * k), **options)
        return model.predict(X) if kind is RatingRegressor else model.predict_proba(X)

    # The classifier's initial bias counts one row of each class that was not there.
    np.testing.assert_allclose(stream(1.0), stream(8.0), atol=1e-4)


@pytest.mark.parametrize("kind", [CTRClassifier, RatingRegressor])
@pytest.mark.parametrize("first", [False, True])
def test_a_chunk_of_weight_zero_is_skipped(kind, first):
    options = {"classes": [0, 1]} if kind is CTRClassifier else {}
    model = kind(**OPTIONS) if first else kind(**OPTIONS).partial_fit(X, Y, **options)
    before = dict(vars(model))
    assert model.partial_fit(SPOILT, Y, sample_weight=np.zeros(N), **options) is model
    assert vars(model).keys() == before.keys() and all(
        vars(model)[name] is v for name, v in before.items()
    )
    with pytest.raises(ValueError, match="shape"):
        model.partial_fit(X, Y, sample_weight=np.zeros(3), **options)


def test_balanced_weights_are_refused_in_chunks_and_weighted_in_fit():
    with pytest.raises(
        ValueError,
        match="class_weight='balanced' is not supported by partial_fit.*compute_class_weight",
    ):
        CTRClassifier(**OPTIONS, class_weight="balanced").partial_fit(X, Y, classes=[0, 1])
    # The advice of the message, and repetition: a row of weight 3 counts as three in the balance.
    weight = np.where(Y == 1, 3.0, 1.0)
    repeated = np.repeat(Y, weight.astype(int))
    by_hand = compute_class_weight("balanced", classes=np.array([0, 1]), y=repeated)
    encoder = FrozenEstimator(FieldEncoder().fit(X))
    a = CTRClassifier(**OPTIONS, encoder=encoder, class_weight="balanced").fit(
        X, Y, sample_weight=weight
    )
    b = CTRClassifier(**OPTIONS, encoder=encoder, class_weight=dict(enumerate(by_hand))).fit(
        X, Y, sample_weight=weight
    )
    np.testing.assert_allclose(a.predict_proba(X), b.predict_proba(X), atol=1e-6)
    with pytest.raises(
        ValueError, match=r"class_weight has \[5\], which are not in classes \[0, 1\]"
    ):
        CTRClassifier(**OPTIONS, class_weight={0: 1.0, 5: 2.0}).fit(X, Y)
    with pytest.raises(
        ValueError, match=r"classes=\[0, 2\] is not the same as in the call before: \[0, 1\]"
    ):
        a.set_params(class_weight=None).partial_fit(X, Y, classes=[0, 2])


@pytest.mark.parametrize("kind", [CTRClassifier, RatingRegressor])
def test_validation_rows_have_weights(kind):
    bad = np.where(ROBOTS, 1 - Y, Y)  # labels of robots are wrong
    options = {**OPTIONS, "max_epochs": 6, "patience": 6}

    def history(**validation):
        return [r["valid_loss"] for r in kind(**options).fit(X, Y, **validation).history_]

    weighted = history(X_val=SPOILT, y_val=bad, sample_weight_val=np.where(ROBOTS, 0.0, 1.0))
    clean = history(X_val=SPOILT[~ROBOTS], y_val=bad[~ROBOTS])
    assert weighted == clean != history(X_val=X, y_val=bad)
    repeated = np.repeat(np.arange(N), np.where(ROBOTS, 1, 3))
    thrice = history(X_val=X, y_val=bad, sample_weight_val=np.where(ROBOTS, 1.0, 3.0))
    np.testing.assert_allclose(
        thrice, history(X_val=X.iloc[repeated], y_val=bad[repeated]), rtol=1e-5
    )
    with pytest.raises(ValueError, match="sample_weight_val must have at least one positive value"):
        history(X_val=X, y_val=Y, sample_weight_val=np.zeros(N))
    with pytest.raises(ValueError, match="sample_weight_val with both"):
        history(sample_weight_val=np.ones(N))
