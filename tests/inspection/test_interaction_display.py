"""InteractionDisplay."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from displays_cases import assert_labels_apart, names, texts
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_autorec.feature_crossing import AEFE, GLIDER, AutoCross, FieldCrosser
from sklearn_autorec.inspection import (
    EmbeddingSizeDisplay,
    InteractionDisplay,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

plt = pytest.importorskip("matplotlib.pyplot")

from matplotlib.colors import to_hex  # noqa: E402

from sklearn_autorec.inspection._plotting import DARK, LIGHT, shorten  # noqa: E402


def strengths(n, seed=0):
    """Field names, scores of all pairs and the kept ones."""
    rng = np.random.default_rng(seed)
    fields = names(n)
    scores = {
        pair: float(s)
        for pair, s in zip(combinations(fields, 2), rng.random(n * (n - 1) // 2), strict=True)
    }
    return fields, scores, [pair for pair, s in scores.items() if s > 0.8]


def outlined(display):
    """Cells of the matrix that are outlined, as (row, column)."""
    (collection,) = display.ax_.collections
    centers = [path.vertices[:4].mean(axis=0) for path in collection.get_paths()]
    return {(round(float(y)), round(float(x))) for x, y in centers}


@pytest.mark.parametrize("n", [3, 10, 40])
def test_matrix_shows_scores_and_outlines_kept(n):
    fields, scores, kept = strengths(n)
    display = InteractionDisplay(kept, scores, fields).plot()
    shown = display.im_.get_array()
    assert shown.shape == (n, n) and shown.mask.sum() == n
    np.testing.assert_array_equal(shown, shown.T)
    for (a, b), score in scores.items():
        assert shown[fields.index(a), fields.index(b)] == score
    places = [(fields.index(a), fields.index(b)) for a, b in kept]
    assert outlined(display) == {*places, *((j, i) for i, j in places)}
    assert display.ax_.get_title() == f"{len(kept)} of {len(scores)} pairs kept (outlined)"
    assert display.bars_ is None


@pytest.mark.parametrize("n", [3, 10, 40])
def test_labels_of_the_matrix_are_readable(n):
    fields, scores, kept = strengths(n)
    display = InteractionDisplay(kept, scores, fields).plot()
    for axis, across in ((display.ax_.xaxis, True), (display.ax_.yaxis, False)):
        labels = axis.get_ticklabels()
        assert texts(labels) == [shorten(name) for name in fields]
        assert all(label.get_fontsize() >= 5.5 for label in labels)
        assert_labels_apart(display.ax_, labels, across)


def test_small_cells_name_every_so_many_fields():
    fields, scores, kept = strengths(40)
    _, ax = plt.subplots(figsize=(4, 4), layout="constrained")
    display = InteractionDisplay(kept, scores, fields).plot(ax)
    shown = texts(ax.get_yticklabels())
    step = 40 // len(shown)
    assert step > 1 and shown == [shorten(name) for name in fields[::step]]
    assert_labels_apart(ax, ax.get_yticklabels(), across=False)
    assert display.im_.get_array().shape == (40, 40)


def test_matrix_of_equal_missing_and_negative_scores():
    fields = ["a", "b", "c"]
    pairs = list(combinations(fields, 2))
    equal = InteractionDisplay([], dict.fromkeys(pairs, 0.0), fields).plot()
    assert equal.im_.get_clim() == (0, 1) and outlined(equal) == set()
    some = InteractionDisplay([], dict(zip(pairs, (np.nan, -2.0, 1.0), strict=True)), fields).plot()
    assert some.im_.get_clim() == (-2, 1)
    assert some.im_.get_array().mask.sum() == 3 + 2
    none = InteractionDisplay([], dict.fromkeys(pairs, np.nan), fields).plot(colorbar=False)
    assert none.im_.get_array().mask.all()
    assert not none.ax_.child_axes and equal.ax_.child_axes[0].get_ylabel() == "score"
    none.figure_.draw_without_rendering()


def test_names_are_not_read_as_formulas():
    fields = ["$x", "x$y$", r"\frac$a$"]
    display = InteractionDisplay([], dict.fromkeys(combinations(fields, 2), 1.0), fields).plot()
    display.figure_.draw_without_rendering()  # a formula would not parse
    assert texts(display.ax_.get_xticklabels()) == fields
    for kind in (
        display.plot(kind="bar"),
        EmbeddingSizeDisplay([1] * 3, fields, [1] * 3, 4).plot(),
    ):
        kind.figure_.draw_without_rendering()


def test_bars_are_the_strongest_of_any_order():
    fields, scores, kept = strengths(10)
    scores = scores | {("user", "item", "C3"): 2.0, ("user", "item", "C6"): np.nan}
    kept = [*kept, ("user", "item", "C3")]
    display = InteractionDisplay(kept, scores, fields).plot(kind="bar", max_bars=15)
    order = sorted(
        (fields for fields in scores if scores[fields] == scores[fields]),
        key=scores.get,
        reverse=True,
    )[:15]
    assert [bar.get_width() for bar in display.bars_] == [scores[fields] for fields in order]
    assert [to_hex(bar.get_facecolor()) for bar in display.bars_] == [
        DARK if t in kept else LIGHT for t in order
    ]
    shown = texts(display.ax_.get_yticklabels())
    assert shown[0] == "user × item × C3"
    assert shown == [" × ".join(shorten(name, 44 // len(t)) for name in t) for t in order]
    assert display.ax_.yaxis_inverted()  # the strongest on top
    assert texts(display.ax_.get_legend().get_texts()) == [
        f"kept ({len(kept)})",
        f"not kept ({len(scores) - len(kept)})",
    ]
    assert display.ax_.get_xlabel() == f"score (15 strongest of {len(scores)})"
    assert display.im_ is None
    assert_labels_apart(display.ax_, display.ax_.get_yticklabels(), across=False)
    everything = display.plot(kind="bar", max_bars=1000)
    assert len(everything.bars_) == len(scores) and everything.ax_.get_xlabel() == "score"


def test_interactions_of_a_fitted_estimator(searched):
    display = InteractionDisplay.from_estimator(searched, kind="bar", max_bars=50)
    assert (
        display.interactions == searched.interactions_
        and display.scores == searched.interaction_scores_
    )
    assert display.field_names == ["f0", "f1", "f2", "f3", "n0", "s0"]
    assert len(display.bars_) == 15 + 20
    assert (
        sum(to_hex(bar.get_facecolor()) == DARK for bar in display.bars_)
        == len(searched.interactions_)
        == 4
    )
    display.plot()
    pairs = [t for t in searched.interactions_ if len(t) == 2]
    title = f"{len(pairs)} of 15 pairs kept (outlined)"
    if len(pairs) < 4:
        title += f"\nnot shown: {4 - len(pairs)} kept of higher order"
    assert display.ax_.get_title() == title


@pytest.fixture(scope="module")
def codes():
    """Forty columns of numbers, and a target that is likely where one of two pairs is high."""
    rng = np.random.default_rng(0)
    X = rng.integers(4, size=(4000, 40))
    both = (X[:, [0, 2]] > 1) & (X[:, [1, 9]] > 1)
    y = (rng.logistic(size=4000) < 5 * both.sum(1) - 3).astype(int)
    return X, y


CROSSERS = [
    AutoCross(max_crosses=3, random_state=0),
    GLIDER(
        HistGradientBoostingClassifier(max_iter=30, random_state=0),
        n_instances=32,
        max_crosses=3,
        random_state=0,
    ),
    AEFE(n_pairs=6, cv=2, random_state=0),
]


@pytest.mark.parametrize("n", [10, 40])
@pytest.mark.parametrize("crosser", CROSSERS, ids=lambda c: type(c).__name__)
def test_crosses_of_a_fitted_transformer(crosser, n, codes):
    fields = names(n)
    table = pd.DataFrame(codes[0][:, :n], columns=fields)
    fitted = clone(crosser).fit(table, codes[1])
    display = InteractionDisplay.from_estimator(make_pipeline(FunctionTransformer(), fitted))
    assert display.field_names == fields and display.interactions == fitted.crosses_
    place = {name: i for i, name in enumerate(fields)}
    pairs = [tuple(place[name] for name in cross) for cross in fitted.crosses_ if len(cross) == 2]
    assert {(0, 1), (2, 9)} <= set(pairs)
    assert outlined(display) == {*pairs, *((j, i) for i, j in pairs)}
    strengths = display.strengths()
    planted = np.array([pair in {(0, 1), (2, 9)} for pair in combinations(range(n), 2)])
    others = strengths[np.triu_indices(n, 1)][~planted]
    assert min(strengths[0, 1], strengths[2, 9]) > np.nanmax([0, *others])
    for axis, across in ((display.ax_.xaxis, True), (display.ax_.yaxis, False)):
        assert texts(axis.get_ticklabels()) == [shorten(name) for name in fields]
        assert_labels_apart(display.ax_, axis.get_ticklabels(), across)
    bars = display.plot(kind="bar")
    expected = {" × ".join(shorten(fields[i], 22) for i in pair) for pair in ((0, 1), (2, 9))}
    assert set(texts(bars.ax_.get_yticklabels())[:2]) == expected


def test_crosses_of_arrays_and_of_nothing(codes):
    X, y = codes[0][:, :4], codes[1]
    display = InteractionDisplay.from_estimator(clone(CROSSERS[0]).fit(X, y))
    assert display.field_names == ["x0", "x1", "x2", "x3"] and ("x0", "x1") in display.interactions
    none = AutoCross(max_crosses=0).fit(X, y)
    display = InteractionDisplay.from_estimator(none)
    assert display.ax_.get_title() == "no interactions" and display.im_.get_array().mask.all()
    display.plot(kind="bar").figure_.draw_without_rendering()
    assert len(display.bars_) == 0
    with pytest.raises(ValueError, match="must have scores of its crosses, got FieldCrosser"):
        InteractionDisplay.from_estimator(FieldCrosser([(0, 1)]).fit(X))
    with pytest.raises(NotFittedError, match="AEFE instance is not fitted"):
        InteractionDisplay.from_estimator(AEFE())


def test_interaction_errors(plain):
    with pytest.raises(
        AttributeError, match=r"search=None does not choose interactions; .*search=AutoFIS\(\)"
    ):
        InteractionDisplay.from_estimator(plain)
    display = InteractionDisplay([], {("a", "b", "c"): 1.0}, ["a", "b", "c"])
    with pytest.raises(ValueError, match="no pairs among the candidates; .*kind='bar'"):
        display.plot()
    with pytest.raises(ValueError, match="kind must be 'matrix' or 'bar', got 'pie'"):
        display.plot(kind="pie")
    with pytest.raises(ValueError, match="max_bars must be at least 1, got 0"):
        display.plot(kind="bar", max_bars=0)
    assert not plt.get_fignums()  # nothing half drawn is left behind
