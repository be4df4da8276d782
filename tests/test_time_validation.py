"""``validation="time"``: the newest rows judge, in fits, searches and the weights of the parts."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import SearchMethod
from sklearn_autorec.datasets import CTRProblem
from sklearn_autorec.engine import HeldOutScore
from sklearn_autorec.engine._group_parts import newest_rows
from sklearn_autorec.estimators import _blending
from sklearn_autorec.interaction import L0SIGN
from sklearn_autorec.nn import PairProducts
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

SMALL = {"network": "fm", "embedding_dim": 2, "max_epochs": 1, "batch_size": 64, "random_state": 0}
TIMED = {"validation": "time", "time_column": "when", "early_stopping": True, **SMALL}


def table(n_rows=400, seed=0):
    """Rows in a random order, with a column that says which are new: all times differ."""
    rng = np.random.default_rng(seed)
    age = rng.permutation(n_rows)
    X = pd.DataFrame(
        {
            "user": rng.integers(0, 30, n_rows).astype(str),
            "when": pd.Timestamp("2026-01-01") + pd.to_timedelta(age, unit="h"),
        }
    )
    return X, rng.integers(0, 2, n_rows), age


# which rows are newest
# --------------------------------------------------------------------------------------------------


def test_the_share_is_as_near_as_rows_of_one_time_allow():
    times = np.repeat([5, 3, 9, 7], [50, 30, 8, 12])
    for share, wanted in (
        (0.01, [9]),
        (0.1, [9]),
        (0.16, [7, 9]),
        (0.5, [5, 7, 9]),
        (0.99, [5, 7, 9]),
    ):
        assert np.array_equal(newest_rows(times, share), np.isin(times, wanted))
    assert newest_rows(np.full(9, 4), 0.2) is None


def test_groups_are_as_new_as_their_oldest_row():
    times = np.array([0, 9, 1, 8, 7, 6, 2, 3])
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    assert newest_rows(times, 0.25, groups).tolist() == [False] * 4 + [True] * 2 + [False] * 2
    assert (
        newest_rows(times, 0.25, np.zeros(8, int)).tolist()
        == [False, True] + [False] + [True] + [False] * 4
    )
    assert newest_rows(np.array([1, 5, 1, 7]), 0.5, np.array([0, 0, 1, 1])) is None


# fit
# --------------------------------------------------------------------------------------------------

TIMES = {
    "datetimes": lambda t: t,
    "zoned": lambda t: t.dt.tz_localize("Europe/Berlin", ambiguous=False),
    "durations": lambda t: t - t.min(),
    "objects": lambda t: pd.Series(list(t), dtype=object),
    "text": lambda t: t.astype(str),
    "zoned text": lambda t: (t.astype(str) + "+02:00").astype(object),
    "seconds": lambda t: t.astype("int64") // 10**9,
    "beyond 2^53": lambda t: t.astype("datetime64[ns]").astype("int64") + 1,
    "floats": lambda t: (t - t.min()).dt.total_seconds(),
    "nullable": lambda t: t.astype("int64").astype("Int64"),
}


@pytest.mark.parametrize("kind", TIMES)
def test_the_newest_rows_judge_whatever_a_time_looks_like(kind, splits):
    X, y, age = table()
    X["when"] = TIMES[kind](X["when"])
    options = TIMED
    if kind not in ("datetimes", "zoned", "durations", "objects"):
        options = {**TIMED, "encoder": FieldEncoder(categorical_features={"when": "id"})}
    CTRClassifier(**options).fit(X, y)
    assert np.array_equal(splits[0].parts == 0, age >= 360) and splits[0].refit


@pytest.mark.parametrize("make", [CTRClassifier, RatingRegressor])
@pytest.mark.parametrize("container", ["polars", "array", "position"])
def test_other_tables_and_positions(make, container, splits):
    X, y, age = table()
    given = {
        "polars": pl.from_pandas,
        "array": lambda x: x.to_numpy(object),
        "position": lambda x: x,
    }
    column = "when" if container == "polars" else 1
    make(**{**TIMED, "time_column": column}).fit(given[container](X), y)
    assert np.array_equal(splits[0].parts == 0, age >= 360)


def test_the_default_estimator_holds_the_newest_out_of_small_tables_too(splits, monkeypatch):
    X, y, age = table()
    found, fit_mixture = [], _blending.fit_mixture

    def noted(names, rows, held_out, parts, logits, **options):
        found.append((names, held_out, parts, len(logits)))
        return fit_mixture(names, rows, held_out, parts, logits, **options)

    monkeypatch.setattr(_blending, "fit_mixture", noted)
    options = {"validation": "time", "time_column": "when", "max_epochs": 1, "random_state": 0}
    CTRClassifier(**options).fit(X, y)
    assert splits[0].n_parts == 1 and np.array_equal(splits[0].parts == 0, age >= 360)
    # The same rows weigh the parts beside the network, by a network that has not seen them.
    ((names, held_out, parts, n_judging),) = found
    assert names == ["wide", "target_statistics"] and held_out is None and n_judging == 40
    assert np.array_equal(parts == 0, age >= 360)


def test_rows_of_no_weight_take_their_times_with_them(splits):
    X, y, age = table()
    weight = (np.arange(len(y)) % 2).astype(float)
    CTRClassifier(**TIMED).fit(X, y, sample_weight=weight)
    own = age[weight > 0]
    assert np.array_equal(splits[0].parts == 0, own >= np.sort(own)[180])


def test_whole_groups_are_held_out_the_newest(splits):
    X, y, age = table()
    groups = age // 15
    CTRClassifier(**TIMED).fit(X, y, groups=groups)
    assert np.array_equal(splits[0].parts == 0, groups >= 24)
    everywhere = age % 7  # each group has rows of all times, and begins at a time of its own
    CTRClassifier(**TIMED).fit(X, y, groups=everywhere)
    assert np.array_equal(splits[1].parts == 0, everywhere == 6)


def test_rows_of_the_user_judge_as_before(splits):
    X, y, age = table()
    CTRClassifier(**TIMED).fit(X, y, X_val=X[:50], y_val=y[:50])
    assert splits[0].parts is None and len(splits[0].validation) == 50


def test_parameters_and_model_files_keep_the_column(tmp_path):
    X, y, _ = table()
    model = CTRClassifier(**TIMED).fit(X, y)
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.get_params()["time_column"] == "when"
    np.testing.assert_array_equal(model.predict_proba(X), loaded.predict_proba(X))


@pytest.mark.parametrize(
    "change, options, message",
    [
        (None, {"time_column": None}, "validation='time' and time_column go together.*None"),
        (None, {"validation": "last"}, "go together, got validation='last'.*'when'"),
        (None, {"time_column": "then"}, "time_column='then' is no column of X.*'user', 'when'"),
        (None, {"time_column": 2}, "time_column=2 is no column of X"),
        (lambda t: t.where(t.index != 7), {}, "'when' must have a time .*row 7 is missing"),
        (lambda t: t.dt.hour.where(t.index != 7), {}, "'when' must have .*row 7 is missing"),
        (lambda t: t.astype(str).where(t.index != 7, ""), {}, "'when' must .*row 7 is missing"),
        (lambda t: t.where(t < t.min(), t.min()), {}, "'when' holds the same time for all rows"),
        (lambda t: t.dt.hour > 5, {}, "'when' must hold times or numbers, got"),
        (lambda t: [[k] for k in t.dt.hour], {}, r"'when' must hold times or numbers, got \["),
        (lambda t: "day " + t.astype(str), {}, "'when' must hold times.*ISO 8601.*'day 2026"),
        (lambda t: t.dt.strftime("%d.%m.%Y"), {}, "'when' must hold times, numbers or text"),
    ],
)
def test_what_is_no_time_is_refused_by_the_name_of_the_column(change, options, message):
    X, y, _ = table()
    if change is not None:
        X["when"] = change(X["when"])
    model = CTRClassifier(**{**TIMED, **options})
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)
    assert not hasattr(model, "net_")


# searches
# --------------------------------------------------------------------------------------------------

SEEN: list = []


class NotedScore(HeldOutScore):
    def __call__(self, problem, architecture):
        SEEN.append(self.rows(problem))
        return super().__call__(problem, architecture)


def one_proposal():
    yield [{"number": 0}]


class ByTime(SearchMethod):
    """Notes which rows it may train on, and which judge."""

    slot = "interaction"

    def search(self, problem):
        SEEN.append(problem.split(0.25))
        SEEN.append(problem.split(0.25, torch.arange(100)))
        problem.evaluate(one_proposal(), score=NotedScore(self.realise))
        return {}

    def realise(self, architecture, context):
        return PairProducts(context)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_searches_are_judged_by_the_newest_of_their_rows(early_stopping, splits):
    X, y, age = table()
    SEEN.clear()
    options = {**TIMED, "early_stopping": early_stopping}
    CTRClassifier(search=ByTime(), **options).fit(X, y)
    own = age  # rows that judge are trained on in the end, and searched with
    for number, (trained, judging) in enumerate(SEEN):
        assert own[trained].max() < own[judging].min()
        assert len(judging) / (len(trained) + len(judging)) == pytest.approx(0.25, abs=0.1)
        assert number != 1 or {*trained.tolist(), *judging.tolist()} == set(range(100))
    assert len(SEEN) == 3
    SEEN.clear()
    plain = {**options, "validation": "random", "time_column": None}
    CTRClassifier(search=ByTime(), **plain).fit(X, y)
    own = age[splits[-1].parts < 0] if early_stopping else age
    assert own[SEEN[0][0]].max() > own[SEEN[0][1]].min()  # the control


def test_networks_that_are_not_trained_again_never_see_the_newest(splits):
    X, y, age = table()
    X["item"] = X["user"].str[:1]
    options = {**TIMED, "wide": "autocross", "search_epochs": 1}
    CTRClassifier(search=L0SIGN(retrain="none"), **options).fit(X, y)
    assert np.array_equal(splits[0].parts == 0, age >= 360)
    assert len(splits[0].kept) == 360 and not splits[0].refit
    assert splits[0].kept.times.max() < splits[0].held_out.times.min()


# a table that drifts
# --------------------------------------------------------------------------------------------------


def judged_and_tested(problem, options, seed, monkeypatch):
    """The least loss of the rows that judge, and the loss of the newest rows, which come after."""
    X, y, _ = problem.sample(3000, seed, 0.0, 0.75)
    X_test, y_test, _ = problem.sample(2000, seed + 50, 0.75, 0.85)
    rng = np.random.default_rng(seed)
    X["when"], X_test["when"] = np.arange(3000.0), 3000.0 + np.arange(2000)
    if options.pop("shuffled", False):
        X["when"] = rng.permutation(X["when"])
    order = rng.permutation(3000)  # only the column says which rows are new
    judged, train = [], _blending.train

    def noted(*args, **kwargs):
        judged.append(train(*args, **kwargs))
        return judged[-1]

    monkeypatch.setattr(_blending, "train", noted)
    model = CTRClassifier(
        network="lr", lr=0.02, max_epochs=8, early_stopping=True, random_state=0, **options
    )
    model.fit(X.iloc[order].reset_index(drop=True), y[order])
    monkeypatch.undo()
    histories = [r for result in judged for r in result.history] or model.history_
    loss = min(r["valid_loss"] for r in histories)
    return loss, log_loss(y_test, model.predict_proba(X_test)[:, 1])


def test_the_newest_rows_tell_more_truly_what_comes_where_a_table_drifts(monkeypatch):
    fields = {"n_fields": 4, "informative_fields": (0, 1, 2, 3), "main_effect": 1.5, "pairs": 0}
    problem = CTRProblem(drift=1.0, random_state=0, **fields)
    kinds = {
        "random": {"validation": "random"},
        "time": {"validation": "time", "time_column": "when"},
        "no order": {"validation": "time", "time_column": "when", "shuffled": True},
    }
    errors = {}
    for kind, options in kinds.items():
        found = [judged_and_tested(problem, dict(options), s, monkeypatch) for s in range(2)]
        errors[kind] = np.mean([tested - judged for judged, tested in found])
    # Rows at random promise too much, and so do the newest by times that mean nothing.
    assert errors["random"] > 0.05 and errors["no order"] > 0.05
    assert abs(errors["time"]) < 0.7 * errors["random"]
