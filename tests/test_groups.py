"""Groups of rows: none is on both sides of a split, and searches see them."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import SearchMethod
from sklearn_autorec.engine import HeldOutScore
from sklearn_autorec.engine._group_parts import group_parts
from sklearn_autorec.estimators import _stages
from sklearn_autorec.interaction import RandomInteractions
from sklearn_autorec.nn import PairProducts
from sklearn_autorec.preprocessing import FieldEncoder

SMALL = {"network": "fm", "embedding_dim": 2, "max_epochs": 1, "batch_size": 64, "random_state": 0}


def table(n_groups=40, rows_of_each=15, seed=0):
    """Rows of sessions: a session has one label and a column of its own that gives it away."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rows_of_each)
    y = rng.integers(0, 2, n_groups)[groups]
    X = pd.DataFrame(
        {"session": [f"s{g}" for g in groups], "noise": rng.choice(list("abc"), len(y))}
    )
    order = rng.permutation(len(y))
    return X.iloc[order].reset_index(drop=True), y[order], groups[order]


# parts
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_parts_hold_whole_groups_of_about_the_wanted_size(seed):
    rng = np.random.default_rng(seed)
    groups = rng.choice(60, 3000, p=rng.dirichlet(np.ones(60)))
    classes = rng.integers(0, 2, 60)[groups]
    for shares in ([0.25] * 4, (0.9, 0.1), (0.5, 0.5)):
        part = group_parts(groups, shares, np.random.RandomState(seed), classes)
        own = pd.Series(part).groupby(groups).nunique()
        assert (own == 1).all() and set(part) == set(range(len(shares)))
        found = np.bincount(part) / len(part)
        assert np.abs(found - shares).max() < 0.06
        rates = [classes[part == k].mean() for k in range(len(shares))]
        assert np.abs(np.array(rates) - classes.mean()).max() < 0.3


def test_every_part_has_a_group_however_large_the_others_are():
    groups = np.array([0] * 90 + [1] * 5 + [2] * 5)
    for shares in ((0.9, 0.1), [1 / 3] * 3):
        part = group_parts(groups, shares, np.random.RandomState(0))
        assert len(np.unique(part)) == len(shares)
    assert np.bincount(group_parts(np.array([4, 4, 7]), (0.9, 0.1), np.random.RandomState(0))).min()
    with pytest.raises(ValueError, match="groups has 2 different labels.*for 3 parts"):
        group_parts(np.array([3, 3, 5]), [1 / 3] * 3, np.random.RandomState(0))


def test_which_groups_are_held_out_is_drawn():
    groups = np.repeat(np.arange(20), 5)
    held = [
        tuple(np.unique(groups[group_parts(groups, (0.9, 0.1), np.random.RandomState(s)) == 1]))
        for s in range(8)
    ]
    assert len(set(held)) > 5 and all(len(own) == 2 for own in held)


# fit
# --------------------------------------------------------------------------------------------------


def leaks(split, groups):
    """Whether rows of a group are trained on while others of it judge."""
    judged = split.parts >= 0
    if split.n_parts > 1:
        return any(len(np.unique(split.parts[groups == g])) > 1 for g in np.unique(groups))
    return bool({*groups[judged]} & {*groups[~judged]})


@pytest.mark.parametrize("kind", [CTRClassifier, RatingRegressor])
def test_the_rows_that_stop_a_training_are_of_groups_of_their_own(kind, splits):
    X, y, groups = table()
    kind(early_stopping=True, **SMALL).fit(X, y, groups=groups)
    assert not leaks(splits[0], groups) and 30 <= (splits[0].parts == 0).sum() <= 90
    assert np.array_equal(splits[0].kept.groups, codes(groups)[splits[0].parts < 0])
    kind(early_stopping=True, **SMALL).fit(X, y)
    assert leaks(splits[1], groups)  # the control


def codes(groups):
    return pd.factorize(np.asarray(groups, object))[0]


def test_parts_of_small_tables_are_of_whole_groups(splits, monkeypatch):
    X, y, groups = table()
    monkeypatch.setattr(_stages, "cross_validated", stop_here)
    for given, leaking in ((groups, False), (None, True)):
        with pytest.raises(InterruptedError):
            CTRClassifier(random_state=0, max_epochs=1).fit(X, y, groups=given)
        assert splits[-1].n_parts == 4 and splits[-1].refit
        assert leaks(splits[-1], groups) is leaking
    three = groups % 3
    with pytest.raises(InterruptedError):
        CTRClassifier(random_state=0, max_epochs=1).fit(X, y, groups=three)
    assert splits[-1].n_parts == 3 and not leaks(splits[-1], three)


def stop_here(*args):
    raise InterruptedError


def test_a_group_that_leaks_makes_the_judgement_rosy():
    """What a session's own column tells is of no use for sessions that were not seen."""
    X, y, groups = table(n_groups=60)
    options = {**SMALL, "max_epochs": 12, "lr": 0.05, "early_stopping": True, "patience": 12}
    honest = CTRClassifier(**options).fit(X, y, groups=groups)
    leaking = CTRClassifier(**options).fit(X, y)
    best = [min(r["valid_loss"] for r in m.history_) for m in (honest, leaking)]
    assert best[0] > 0.6 and best[1] < 0.3


def test_the_last_rows_judge_where_the_user_says_so(splits):
    X, y, groups = table()
    CTRClassifier(early_stopping=True, validation="last", **SMALL).fit(X, y, groups=groups)
    assert (splits[0].parts[-60:] == 0).all() and (splits[0].parts[:-60] == -1).all()


def test_a_single_group_cannot_be_held_out(splits):
    X, y, groups = table()
    with pytest.raises(ValueError, match="groups has the same label in all rows"):
        CTRClassifier(early_stopping=True, **SMALL).fit(X, y, groups=["a"] * len(y))
    CTRClassifier(random_state=0, max_epochs=1).fit(X, y, groups=["a"] * len(y))
    assert splits[-1].parts is None
    CTRClassifier(early_stopping=True, **SMALL).fit(X, y, X_val=X, y_val=y, groups=["a"] * len(y))


@pytest.mark.parametrize(
    "labels",
    [
        lambda g: [f"user {k}" for k in g],
        lambda g: [("day", int(k)) for k in g],
        lambda g: pd.Series(g, dtype="Int64"),
        lambda g: pd.Series(g).astype("category"),
        lambda g: [int(k) if k % 2 else str(k) for k in g],
        lambda g: g.astype(float),
    ],
    ids=["texts", "tuples", "nullable", "categories", "mixed", "floats"],
)
def test_labels_may_be_anything_with_a_hash(labels, splits):
    X, y, groups = table()
    CTRClassifier(early_stopping=True, **SMALL).fit(X, y, groups=labels(groups))
    assert np.array_equal(splits[0].kept.groups, codes(groups)[splits[0].parts < 0])


@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda g: g[:-1], ValueError, r"groups must have one label for each of the 600 rows.*599"),
        (lambda g: g[:, None], ValueError, r"groups must have one label .*\(600, 1\)"),
        (lambda g: [None, *g[1:]], ValueError, r"groups must .*row 0 is missing \(None\)"),
        (lambda g: np.r_[g[:-1], np.nan], ValueError, r"groups must .*row 599 is missing"),
        (lambda g: pd.Series([*g[:-1], pd.NA]), ValueError, r"groups .*row 599 is missing"),
        (lambda g: "session", TypeError, "groups must have a label for each row, got 'session'"),
        (lambda g: 3, TypeError, "groups must have a label for each row, got 3"),
        (lambda g: [[int(k)] for k in g], TypeError, "groups must have labels with a hash"),
    ],
)
def test_what_are_no_groups_is_refused(change, error, message):
    X, y, groups = table()
    model = CTRClassifier(**SMALL)
    with pytest.raises(error, match=message):
        model.fit(X, y, groups=change(groups))
    assert not hasattr(model, "net_")


def test_rows_of_no_weight_take_their_groups_with_them(splits):
    X, y, groups = table()
    weight = (np.arange(len(y)) % 3 > 0).astype(float)
    model = CTRClassifier(early_stopping=True, **SMALL)
    model.fit(X, y, sample_weight=weight, groups=groups)
    whole = codes(groups)[weight > 0]
    assert np.array_equal(splits[0].kept.groups, whole[splits[0].parts < 0])
    assert not leaks(splits[0], whole)
    model.set_params(class_weight={0: 0.0, 1: 1.0}).fit(X, y, groups=groups)
    whole = codes(groups)[y == 1]
    assert np.array_equal(splits[1].kept.groups, whole[splits[1].parts < 0])


# searches
# --------------------------------------------------------------------------------------------------

SEEN: list = []


class GroupWise(SearchMethod):
    """Notes which groups it is shown."""

    slot = "interaction"

    def search(self, problem):
        SEEN.append(problem)
        problem.evaluate(iter_of([{"number": 0}, {"number": 1}]), score=NotedScore(self.realise))
        return {}

    def realise(self, architecture, context):
        return PairProducts(context)


def iter_of(batch):
    yield batch


class NotedScore(HeldOutScore):
    def __call__(self, problem, architecture):
        SEEN.append((problem, self.rows(problem)))
        return super().__call__(problem, architecture)


def test_searches_see_the_groups_of_their_rows():
    X, y, groups = table()
    for given in (groups, None):
        SEEN.clear()
        model = CTRClassifier(search=GroupWise(), early_stopping=False, **SMALL)
        model.fit(X, y, groups=given)
        problem = SEEN[0]
        if given is None:
            assert problem.groups is None and SEEN[1][0].groups is None
            continue
        assert problem.groups.dtype == torch.int64
        assert np.array_equal(problem.groups, codes(groups))
        for copy, (trained, judging) in SEEN[1:]:
            assert torch.equal(copy.groups, problem.groups)
            assert not {*copy.groups[trained].tolist()} & {*copy.groups[judging].tolist()}
        for rows in (None, torch.arange(100, 400)):
            trained, judging = problem.split(0.2, rows)
            own = [{*problem.groups[part].tolist()} for part in (trained, judging)]
            assert not own[0] & own[1] and 0.1 < len(judging) / len([*trained, *judging]) < 0.3
            part = problem.data.select(judging)
            assert torch.equal(part.groups, problem.groups[judging])
        single = problem.groups == problem.groups[0]
        trained, judging = problem.split(0.2, torch.nonzero(single)[:, 0])
        assert len(trained) and len(judging)  # one group is split row by row


def test_groups_follow_where_fields_are_dropped():
    from sklearn_autorec.feature_selection import AutoField

    X, y, groups = table()
    SEEN.clear()
    search = [AutoField(n_kept=1), GroupWise()]
    X["more"] = X["noise"]
    CTRClassifier(search=search, early_stopping=False, **SMALL).fit(X, y, groups=groups)
    assert np.array_equal(SEEN[0].groups, codes(groups))


# routing
# --------------------------------------------------------------------------------------------------


class Noting(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


def test_grid_searches_hand_the_groups_of_their_splitter_on(splits):
    X, y, groups = table()
    with sklearn.config_context(enable_metadata_routing=True):
        encoder = FieldEncoder(unknown_warning=None)  # sessions of other folds
        model = CTRClassifier(early_stopping=True, encoder=encoder, **SMALL)
        model.set_fit_request(groups=True)
        pipe = make_pipeline(Noting(), model)
        grid = {"ctrclassifier__lr": [0.01]}
        search = GridSearchCV(pipe, grid, cv=GroupKFold(3)).fit(X, y, groups=groups)
    assert len(splits) == 4 and np.isfinite(search.best_score_)
    for split, (train, _) in zip(splits, GroupKFold(3).split(X, y, groups), strict=False):
        own = groups[train]
        assert np.array_equal(split.kept.groups, codes(own)[split.parts < 0])
        assert not leaks(split, own)


def test_groups_that_are_not_asked_for_go_to_the_splitter_alone(splits):
    X, y, groups = table()
    with sklearn.config_context(enable_metadata_routing=True):
        encoder = FieldEncoder(unknown_warning=None)
        model = CTRClassifier(early_stopping=True, encoder=encoder, **SMALL)
        model.set_fit_request(groups=False)
        GridSearchCV(model, {"lr": [0.01]}, cv=GroupKFold(2)).fit(X, y, groups=groups)
    assert all(split.kept.groups is None for split in splits)


def test_groups_do_not_change_what_a_fit_without_held_out_rows_finds():
    X, y, groups = table()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models = [
            CTRClassifier(search=RandomInteractions(), early_stopping=False, **SMALL).fit(
                X, y, groups=given
            )
            for given in (None, groups)
        ]
    assert np.array_equal(*(m.predict_proba(X) for m in models))
