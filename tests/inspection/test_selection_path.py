import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.feature_selection import FSTD, RandomSubset, SensitivitySelector
from sklearn_autorec.inspection import SelectionPathDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

TREE = DecisionTreeClassifier(min_samples_leaf=5, random_state=0)


def table(n_fields=6, n=120):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, (n, n_fields)).astype(float)
    return X, (X[:, 1] + X[:, 2] + rng.integers(0, 2, n) > 2).astype(int)


def fit(cls, X, y, **options):
    return cls(TREE, cv=2, random_state=0, **{"max_evaluations": 25} | options).fit(X, y)


@pytest.fixture(scope="module")
def fitted():
    X, y = table()
    return (
        fit(FSTD, X, y, scoring="roc_auc"),
        fit(RandomSubset, X, y, scoring="roc_auc"),
        fit(SensitivitySelector, X, y, method="permutation", scoring="roc_auc"),
    )


def test_the_path_is_that_of_the_history(fitted):
    fstd, random, permutation = fitted
    display = SelectionPathDisplay.from_estimator(
        fstd,
        baselines={
            "random": random,
            "ranking": make_pipeline(permutation),
            "forest": ([4, 2], [0.7, 0.6]),
            "all": fstd.search_history_[0]["score"],
        },
    )
    assert list(display.lines_) == [
        "FSTD, 25 evaluations",
        f"random, {random.n_evaluations_} evaluations",
        "ranking, 6 evaluations",
        "forest",
    ]
    for selector, line in zip(fitted, display.lines_.values(), strict=False):
        best = {}
        for record in selector.search_history_:
            n = len(record["subset"])
            best[n] = max(best.get(n, 0), record["score"])
        drawn = {n: score for n, score in zip(*line.get_data(), strict=True) if not np.isnan(score)}
        assert drawn == best
    assert display.lines_["forest"].get_xdata().tolist() == [2, 4]
    assert sorted(display.tried[1]) == sorted(r["score"] for r in fstd.search_history_)
    assert display.chosen == (fstd.support_.sum(), fstd.best_score_)
    assert display.levels == {
        "no fields": fstd.no_fields_score_,
        "all": fstd.search_history_[0]["score"],
    }
    assert display.ax_.get_ylabel() == "roc auc, cross-validated"
    assert display.ax_.get_xlabel() == "number of fields"
    assert SelectionPathDisplay.from_estimator(random).score_name.startswith("roc auc")


def test_scores_that_failed_and_numbers_that_were_skipped():
    history = [
        {"subset": tuple(range(n)), "score": s}
        for n, s in ((40, 0.7), (1, 0.5), (2, np.nan), (3, 0.6), (3, 0.5))
    ]
    sizes, scores = SelectionPathDisplay.path_of(history)
    assert sizes.tolist() == [1, 3, 40] and scores.tolist() == [0.5, 0.6, 0.7]
    X, y = table(40)
    line = SelectionPathDisplay.from_estimator(fit(FSTD, X, y, max_evaluations=3)).lines_[
        "FSTD, 3 evaluations"
    ]
    assert line.get_xdata().tolist() == [1, 2, 39, 40] and np.isnan(line.get_ydata()).tolist() == [
        0,
        0,
        1,
        0,
    ]


def test_axes_and_pipelines(fitted):
    figure, axes = plt.subplots(1, 2, layout="constrained")
    display = SelectionPathDisplay.from_estimator(
        make_pipeline(fitted[0], TREE).fit(*table()), ax=axes[0]
    )
    assert display.ax_ is axes[0] and display.figure_ is figure and not axes[1].has_data()
    assert display.plot(ax=axes[1]) is display and axes[1].has_data()
    assert plt.get_fignums() == [figure.number]
    part = plt.figure(layout="constrained").subfigures(1, 2)[0]
    assert display.plot(ax=part.subplots()).figure_ is part
    frozen = SelectionPathDisplay.from_estimator(
        make_pipeline(FrozenEstimator(make_pipeline(fitted[0])))
    )
    assert list(frozen.lines_) == [f"FSTD, {fitted[0].n_evaluations_} evaluations"]


@pytest.mark.parametrize("n_fields", [10, 40])
def test_texts_stay_apart_and_inside(n_fields):
    X, y = table(n_fields)
    selector = fit(FSTD, X, y)
    names = ["random", "a baseline whose name goes on and on, and then on again", "$ranking$"]
    level = selector.no_fields_score_ + 1e-3
    baselines = {name: fit(RandomSubset, X, y, max_evaluations=10) for name in names}
    baselines |= {"all fields": level, "all fields of another model": level + 1e-3}
    display = SelectionPathDisplay.from_estimator(selector, baselines=baselines)
    figure, ax = display.figure_, display.ax_
    figure.draw_without_rendering()
    ticks = [
        t
        for t in ax.get_xticklabels()
        if ax.get_xlim()[0] <= t.get_position()[0] <= ax.get_xlim()[1]
    ]
    assert all(float(t.get_text()).is_integer() for t in ticks)
    groups = [ticks, ax.texts, ax.get_legend().get_texts()]
    for texts in groups:
        boxes = [t.get_window_extent() for t in texts]
        for k, box in enumerate(boxes):
            assert (
                box.x0 >= -1
                and box.y0 >= -1
                and box.x1 <= figure.bbox.width + 1
                and box.y1 <= figure.bbox.height + 1
            )
            assert not any(box.overlaps(other) for other in boxes[:k])
    assert {t.get_text() for t in ax.texts} == {"no fields", "all fields", "all field…er model"}
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 >= -1 and not legend.overlaps(ax.get_window_extent())


def test_what_has_no_path(fitted):
    X, y = table()
    with pytest.raises(NotFittedError):
        SelectionPathDisplay.from_estimator(FSTD(TREE))
    with pytest.raises(
        TypeError, match=r"estimator must be a fitted selector that scores subsets.*SelectKBest"
    ):
        SelectionPathDisplay.from_estimator(SelectKBest(k=2).fit(X, y))
    with pytest.raises(TypeError, match=r"baselines\['kbest'\] must be a fitted selector"):
        SelectionPathDisplay.from_estimator(
            fitted[0], baselines={"kbest": SelectKBest(k=2).fit(X, y)}
        )
    with pytest.raises(ValueError, match="estimator has no path: RandomSubset scored no subset"):
        SelectionPathDisplay.from_estimator(RandomSubset(random_state=0).fit(X))
    for pair in (([1, 2], [0.5]), ([], []), (1, 2, 3), (["a"], [0.5])):
        with pytest.raises(
            ValueError, match=r"baselines\['mine'\] must be a selector, a score, or numbers"
        ):
            SelectionPathDisplay.from_estimator(fitted[0], baselines={"mine": pair})


def test_a_ranking_of_a_given_size_marks_no_score(fitted):
    X, y = table()
    found = fit(FSTD, X, y, final="filter", n_features_to_select=6, max_evaluations=8)
    assert SelectionPathDisplay.from_estimator(found).chosen[0] == 6
    display = SelectionPathDisplay(
        {"mine": ([1, 2], [0.5, 0.6])}, chosen=(2, np.nan), levels={"best": np.nan}
    ).plot()
    assert (
        len(display.ax_.lines) == 1 and display.ax_.get_legend().get_texts()[0].get_text() == "mine"
    )


def test_without_matplotlib_the_extra_is_named(fitted, no_matplotlib):
    display = SelectionPathDisplay.from_estimator(fitted[0])
    no_matplotlib()
    for method, call in (
        ("from_estimator", lambda: SelectionPathDisplay.from_estimator(fitted[0])),
        ("plot", display.plot),
    ):
        with pytest.raises(
            ImportError, match=rf"SelectionPathDisplay.{method} requires matplotlib"
        ):
            call()
