"""Tables of other libraries: what pandas' tables give, without the columns that nobody needs."""

import sys
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from small_tables import visits

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.feature_crossing import AEFE, GLIDER, AutoCross, FieldCrosser, TargetStatistics
from sklearn_autorec.feature_selection import FSTD, FieldSelector, OptFS
from sklearn_autorec.linear_model import CrossedLinearClassifier
from sklearn_autorec.metrics import grouped_scorer
from sklearn_autorec.model_selection import RegularizedEvolutionSearchCV
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save
from sklearn_autorec.utils._frames import column_of, eager, table_names

pytestmark = pytest.mark.filterwarnings("ignore:Dask support is moving:FutureWarning")
pl = pytest.importorskip("polars", reason="polars is not installed")
nw = pytest.importorskip("narwhals", reason="narwhals is not installed")

RNG = np.random.default_rng(0)
N = 240
X = visits(RNG, N, n_users=4, n_items=4, n_tags=4, lengths=(1, 3))
SAME = (X["user"].astype(int) + X["item"]) % 2  # only a cross tells it
Y = (RNG.random(N) < 0.2 + 0.6 * SAME).astype(int).to_numpy()
X.loc[::9, "user"] = None
X.loc[::7, "price"] = np.nan
FLAT = X[["user", "item", "price"]]
SMALL = {"network": "fm", "embedding_dim": 2, "max_epochs": 1, "random_state": 0, "device": "cpu"}


def duckdb_relation(frame):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    connection = duckdb.connect()
    connection.register("rows", pa.Table.from_pandas(frame, preserve_index=False))
    return connection.sql("select * from rows")


def dask_frame(frame):
    dask = pytest.importorskip("dask", reason="dask is not installed")
    table = pytest.importorskip("dask.dataframe", reason="dask.dataframe is not installed")
    with dask.config.set({"dataframe.convert-string": False}):  # which would make lists text
        return table.from_pandas(frame, npartitions=2, sort=False)


KINDS = {
    "polars": pl.from_pandas,
    "LazyFrame": lambda frame: pl.from_pandas(frame).lazy(),
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "narwhals": lambda frame: nw.from_native(frame),
    "lazy narwhals": lambda frame: nw.from_native(pl.from_pandas(frame).lazy()),
    "duckdb": duckdb_relation,
    "dask": dask_frame,
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def values(out):
    """What a transformer gives, as an array of plain cells."""
    out = eager(out)
    out = out.to_pandas() if hasattr(out, "to_pandas") else out
    array = out.to_numpy(dtype=object) if isinstance(out, pd.DataFrame) else np.asarray(out)
    return np.where(pd.isna(array), None, array)


@cache
def fitted_to_pandas(make):
    """What each kind of table is compared with."""
    return make(**SMALL).fit(X, Y)


@pytest.mark.parametrize("make", [CTRClassifier, RatingRegressor])
def test_estimators_give_what_they_give_of_pandas(kind, make):
    expected, found = fitted_to_pandas(make), make(**SMALL).fit(kind(X), Y)
    np.testing.assert_array_equal(expected.predict(X), found.predict(kind(X)))
    if make is CTRClassifier:
        np.testing.assert_array_equal(expected.predict_proba(X), found.predict_proba(kind(X)))
        np.testing.assert_array_equal(
            expected.decision_function(X[:3]), found.decision_function(kind(X[:3]))
        )
        assert expected.score(X, Y) == found.score(kind(X), Y)
    chunk = make(**SMALL)
    more = {"classes": [0, 1]} if make is CTRClassifier else {}
    chunk.partial_fit(kind(X), Y, **more)
    np.testing.assert_array_equal(
        chunk.predict(X), make(**SMALL).partial_fit(X, Y, **more).predict(X)
    )


def test_the_encoder_and_validation_rows(kind):
    expected = FieldEncoder().fit(X)
    for found in (FieldEncoder().fit(kind(X)), FieldEncoder().partial_fit(kind(X))):
        for part in ("ids", "numeric", "sequences"):
            np.testing.assert_array_equal(
                getattr(expected.encode(X), part), getattr(found.encode(kind(X)), part)
            )
    np.testing.assert_array_equal(
        FieldEncoder().fit_transform(kind(X)), FieldEncoder().fit_transform(X)
    )
    options = {**SMALL, "early_stopping": True}
    with_rows = CTRClassifier(**options).fit(kind(X), Y, X_val=kind(X[:40]), y_val=Y[:40])
    expected = CTRClassifier(**options).fit(X, Y, X_val=X[:40], y_val=Y[:40])
    np.testing.assert_array_equal(with_rows.predict_proba(X), expected.predict_proba(X))
    timed = {**options, "validation": "time", "time_column": "price", "encoder": None}
    own = X.assign(price=np.arange(N, dtype=float))
    np.testing.assert_array_equal(
        CTRClassifier(**timed).fit(kind(own), Y).predict_proba(own),
        CTRClassifier(**timed).fit(own, Y).predict_proba(own),
    )


TRANSFORMERS = {
    "FieldCrosser": lambda: FieldCrosser([("user", "item")]),
    "one hot": lambda: FieldCrosser([("user", "item")], output="onehot"),
    "AutoCross": lambda: AutoCross(random_state=0),
    "AEFE": lambda: AEFE(n_pairs=2, random_state=0),
    "GLIDER": lambda: GLIDER(
        make_pipeline(TargetStatistics(append="numeric", random_state=0), LogisticRegression()),
        n_instances=4,
        n_perturbations=50,
        max_epochs=5,
        random_state=0,
    ),
    "TargetStatistics": lambda: TargetStatistics(columns=["user", "item"], random_state=0),
    "FieldSelector": lambda: FieldSelector(
        n_features_to_select=2, estimator=CTRClassifier(**SMALL), random_state=0
    ),
    "OptFS": lambda: FieldSelector(OptFS(), estimator=CTRClassifier(**SMALL), random_state=0),
    "FSTD": lambda: FSTD(
        CTRClassifier(**SMALL), n_features_to_select=2, max_evaluations=4, cv=2, random_state=0
    ),
}


@cache
def transformer_of_pandas(name):
    """What each kind of table is compared with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of searches that end early
        return TRANSFORMERS[name]().fit(FLAT, Y)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_give_what_they_give_of_pandas(kind, name):
    if name == "GLIDER" and kind not in (KINDS["LazyFrame"], KINDS["duckdb"]):
        pytest.skip("it asks an estimator of its own, which takes a while")
    expected = transformer_of_pandas(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = TRANSFORMERS[name]().fit(kind(FLAT), Y)
    out = expected.transform(FLAT[:20])
    if name == "one hot":
        assert (out != found.transform(kind(FLAT[:20]))).nnz == 0
        return
    if name in ("AutoCross", "AEFE", "GLIDER"):
        assert out.shape[1] > FLAT.shape[1]  # or nothing is compared
    np.testing.assert_array_equal(values(out), values(found.transform(kind(FLAT[:20]))))


def test_linear_models_pipelines_and_searches(kind):
    options = {"max_crosses": 2, "random_state": 0}
    expected, found = (CrossedLinearClassifier(**options).fit(table, Y) for table in (X, kind(X)))
    np.testing.assert_array_equal(expected.predict_proba(X), found.predict_proba(kind(X)))
    np.testing.assert_array_equal(expected.explain(X[:3]), found.explain(kind(X[:3])))
    pipes = [
        make_pipeline(FieldCrosser([("user", "item")]), CTRClassifier(**SMALL)).fit(table, Y)
        for table in (X, kind(X))
    ]
    np.testing.assert_array_equal(pipes[0].predict_proba(X), pipes[1].predict_proba(kind(X)))
    searches = [
        RegularizedEvolutionSearchCV(
            CTRClassifier(**SMALL), {"lr": [0.01, 0.1]}, n_iter=2, cv=2, random_state=0
        ).fit(table, Y)
        for table in (X, kind(X))
    ]
    assert searches[0].best_score_ == searches[1].best_score_


def test_loaded_models_and_scorers(kind, tmp_path):
    model = fitted_to_pandas(CTRClassifier)
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(model.predict_proba(X), loaded.predict_proba(kind(X)))
    scorer = grouped_scorer("roc_auc", "item")
    assert scorer(model, X, Y) == scorer(loaded, kind(X), Y)


# lazy tables
# --------------------------------------------------------------------------------------------------


def broken(names):
    """A LazyFrame of which some columns cannot be collected."""
    lazy = pl.from_pandas(FLAT).lazy()
    kinds = lazy.collect_schema()
    return lazy.with_columns(
        pl.col(name).map_batches(fails, return_dtype=kinds[name]) for name in names
    )


def test_a_selector_collects_only_what_it_keeps():
    selector = FieldSelector(
        n_features_to_select=1, estimator=CTRClassifier(**SMALL), random_state=0
    ).fit(FLAT, Y)
    (kept,) = FLAT.columns[selector.support_]
    lazy = broken([name for name in FLAT.columns if name != kept])
    assert selector.transform(lazy).columns == [kept]
    scorer, model = grouped_scorer("roc_auc", "item"), CTRClassifier(**SMALL).fit(X, Y)
    assert column_of(lazy, kept).to_list() == pl.from_pandas(FLAT)[kept].to_list()
    assert scorer(model, pl.from_pandas(X).lazy(), Y) == scorer(model, X, Y)


def fails(column):
    raise AssertionError(f"{column.name} was collected")


@pytest.mark.parametrize(
    "make",
    [
        lambda: CTRClassifier(**SMALL),
        lambda: FieldCrosser([("user", "item")]),
        lambda: CrossedLinearClassifier(max_crosses=0),
        lambda: FieldSelector(n_features_to_select=2, estimator=CTRClassifier(**SMALL)),
    ],
    ids=["estimator", "crosser", "linear", "selector"],
)
def test_other_columns_are_refused_before_a_row_is_collected(make):
    model = make().fit(FLAT, Y)
    use = getattr(model, "predict" if hasattr(model, "predict") else "transform")
    lazy = broken(FLAT.columns)
    for table, message in (
        (lazy.rename({"user": "usr"}), "Missing: .'user'.; new: .'usr'"),
        (lazy.select("item", "user", "price"), "must be in the order"),
    ):
        with pytest.raises(ValueError, match=message):
            use(table)


def test_without_narwhals_the_extra_is_named(monkeypatch):
    model = CTRClassifier(**SMALL).fit(X, Y)
    monkeypatch.setitem(sys.modules, "narwhals", None)
    with pytest.raises(
        ImportError, match=r"LazyFrame is read by narwhals.*sklearn-autorec\[frames\]"
    ):
        model.predict(pl.from_pandas(X).lazy())
    # Nothing else asks for it, beside scikit-learn where it depends on it.
    for rows in (X[:5], X.to_dict("records")):
        assert len(model.predict(rows)) == len(rows)


def test_tables_that_nobody_knows_pass_as_they_are():
    class Odd:
        columns = ("a", "b")

    odd = Odd()
    assert eager(odd) is odd and eager(X) is X
    assert table_names(np.zeros((2, 2))) is None and table_names(odd) == ["a", "b"]
    with pytest.raises((TypeError, ValueError)):
        FieldEncoder().fit(odd)


class PandasLike:
    """Stands for a library whose tables narwhals converts, such as modin."""

    def __init__(self, frame):
        self.frame = frame
        self.columns = frame.columns

    def __narwhals_dataframe__(self):
        return nw.from_native(self.frame)._compliant_frame


def test_eager_tables_of_other_libraries_are_converted():
    found = eager(PandasLike(X))
    pd.testing.assert_frame_equal(found, X)
