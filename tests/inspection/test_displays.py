from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier
from sklearn_autorec.feature_crossing import AEFE, GLIDER, AutoCross, FieldCrosser
from sklearn_autorec.inspection import (
    EmbeddingSizeDisplay,
    InteractionDisplay,
    SearchHistoryDisplay,
)
from sklearn_autorec.interaction import AutoFIS

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

from matplotlib.colors import to_hex  # noqa: E402

from sklearn_autorec.inspection._plotting import DARK, LIGHT, shorten  # noqa: E402

DISPLAYS = (InteractionDisplay, EmbeddingSizeDisplay, SearchHistoryDisplay)


class SizedClassifier(CTRClassifier):
    """Stands for an estimator with a search for embedding sizes."""

    embedding_sizes_ = {"f0": 4, "f1": np.array([0, 0, 2, 8]), "f2": 0, "f3": 8, "n0": 1, "s0": 3}


@pytest.fixture(scope="module")
def data():
    X, y = mixed_clicks(1200, cardinality=5, pairs=1)
    X.columns = ["f0", "f1", "f2", "f3", "n0", "s0"]
    return X, y


@pytest.fixture(scope="module")
def searched(data):
    model = SizedClassifier(
        network="fm",
        search=AutoFIS(orders=(2, 3), threshold=0, max_interactions=4),
        max_epochs=2,
        search_epochs=3,
        random_state=0,
    )
    return model.fit(*data)


@pytest.fixture(scope="module")
def plain(data):
    return CTRClassifier(network="fm", max_epochs=1, random_state=0).fit(*data)


def names(n):
    return [
        "user",
        "item",
        *(f"feature_{i}_with_a_rather_long_name" if i % 3 else f"C{i}" for i in range(2, n)),
    ]


def strengths(n, seed=0):
    """Field names, scores of all pairs and the kept ones."""
    rng = np.random.default_rng(seed)
    fields = names(n)
    scores = {
        pair: float(s)
        for pair, s in zip(combinations(fields, 2), rng.random(n * (n - 1) // 2), strict=True)
    }
    return fields, scores, [pair for pair, s in scores.items() if s > 0.8]


def texts(labels):
    return [label.get_text() for label in labels]


def assert_labels_apart(ax, labels, across):
    """Neighbouring labels neither overlap nor leave the figure."""
    figure = ax.figure
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    boxes.sort(key=lambda box: box.x0 if across else box.y0)
    for one, other in zip(boxes, boxes[1:], strict=False):
        assert (one.x1 <= other.x0 + 0.5) if across else (one.y1 <= other.y0 + 0.5)
    for box in boxes:
        assert box.x0 >= -0.5 and box.y0 >= -0.5
        assert box.x1 <= figure.bbox.width + 0.5 and box.y1 <= figure.bbox.height + 0.5


# What all displays share
# --------------------------------------------------------------------------------


@pytest.mark.parametrize("display", DISPLAYS)
def test_from_estimator_takes_estimators_and_pipelines(display, searched):
    pipeline = make_pipeline(FunctionTransformer(), make_pipeline(searched))
    for estimator in (searched, pipeline, FrozenEstimator(searched)):
        drawn = display.from_estimator(estimator)
        assert isinstance(drawn, display)
        assert drawn.figure_ is drawn.ax_.figure
        drawn.figure_.draw_without_rendering()


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("layout", [None, "constrained"])
def test_given_axes_are_used_and_no_others(display, layout, searched):
    figure, axes = plt.subplots(2, 2, layout=layout)
    size = figure.get_size_inches().tolist()
    drawn = display.from_estimator(searched, ax=axes[0, 1])
    assert drawn.ax_ is axes[0, 1] and drawn.figure_ is figure
    assert drawn.plot(ax=axes[1, 0]) is drawn and drawn.ax_ is axes[1, 0]
    assert axes[0, 1].has_data() and axes[1, 0].has_data()
    assert not axes[0, 0].has_data() and not axes[1, 1].has_data()
    assert figure.axes == list(axes.flat)
    assert figure.get_size_inches().tolist() == size and plt.get_fignums() == [figure.number]


@pytest.mark.parametrize("display", DISPLAYS)
def test_axes_in_a_subfigure(display, searched):
    part = plt.figure(layout="constrained").subfigures(1, 2)[0]
    drawn = display.from_estimator(searched, ax=part.subplots())
    assert drawn.figure_ is part


@pytest.mark.parametrize("display", DISPLAYS)
def test_unfitted(display):
    for estimator in (CTRClassifier(), make_pipeline(FunctionTransformer(), CTRClassifier())):
        with pytest.raises(NotFittedError, match="CTRClassifier instance is not fitted yet"):
            display.from_estimator(estimator)


@pytest.mark.parametrize("display", DISPLAYS)
def test_without_matplotlib_the_extra_is_named(display, searched, no_matplotlib):
    drawn = display.from_estimator(searched)
    no_matplotlib()
    for method, call in (
        ("from_estimator", lambda: display.from_estimator(searched)),
        ("plot", drawn.plot),
    ):
        with pytest.raises(
            ImportError, match=rf"{display.__name__}\.{method} requires matplotlib.*autorec\[plot\]"
        ):
            call()


def test_names_lose_their_middle():
    assert shorten("short", 5) == "short"
    assert shorten(17) == "17"
    for width in range(4, 20):
        cut = shorten("a_very_long_name_of_a_field_1", width)
        assert len(cut) == width and cut[0] == "a" and cut[-1] == "1" and cut.count("…") == 1


# InteractionDisplay
# -------------------------------------------------------------------------------------


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


# EmbeddingSizeDisplay
# -----------------------------------------------------------------------------------


def remarks(display):
    return texts(display.ax_.texts)


def test_sizes_of_fields():
    display = EmbeddingSizeDisplay([4, 0, 16], ["a", "b", "c"], [1234, 1, None], 16).plot()
    assert [bar.get_width() for bar in display.bars_] == [4, 0, 16]
    assert texts(display.ax_.get_yticklabels()) == ["a", "b", "c"]
    assert remarks(display) == ["1,234 values", "1 value, dropped", ""]
    assert display.ax_.yaxis_inverted()
    (line,) = display.ax_.lines
    assert set(line.get_xdata()) == {16}
    assert texts(display.ax_.get_legend().get_texts()) == ["size", "full dimension (16)"]
    display.plot(sort=True)
    assert [bar.get_width() for bar in display.bars_] == [16, 4, 0]
    assert texts(display.ax_.get_yticklabels()) == ["c", "a", "b"]
    assert remarks(display) == ["", "1,234 values", "1 value, dropped"]


def test_sizes_of_values():
    skewed = np.array([0] * 9 + [8])  # its mean is outside its quartiles
    spread = np.arange(9)
    nearly_none, nearly_all = np.ones(1000, int), np.zeros(1000, int)
    nearly_none[0], nearly_all[0] = 0, 1
    sizes = [skewed, spread, 5, nearly_none, nearly_all, np.array([], int)]
    display = EmbeddingSizeDisplay(sizes, list("abcdef"), [10, 9, 3, 1000, 1000, 0], 8).plot()
    np.testing.assert_allclose(
        [bar.get_width() for bar in display.bars_], [0.8, 4, 5, 0.999, 0.001, 0]
    )
    assert remarks(display) == [
        "10 values, 90% empty",
        "9 values, 11% empty",
        "3 values",
        "1,000 values, <1% empty",
        "1,000 values, >99% empty",
        "0 values, 0% empty",
    ]
    quartiles = display.ax_.collections[-1].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in quartiles], [[0, 0], [2, 6], [1, 1], [0, 0]])
    # Row c has a single size.
    np.testing.assert_allclose([s[0, 1] for s in quartiles], [0, 1, 3, 4])
    assert texts(display.ax_.get_legend().get_texts()) == [
        "mean size over values",
        "quartiles",
        "full dimension (8)",
    ]


@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize("n", [1, 10, 40])
def test_labels_of_sizes_are_readable(n, by_value):
    sizes = [np.full(5, i % 17) if by_value else i % 17 for i in range(n)]
    display = EmbeddingSizeDisplay(sizes, names(40)[:n], [10**6] * n, 16).plot()
    labels = display.ax_.get_yticklabels()
    assert texts(labels) == [shorten(name) for name in names(40)[:n]]
    assert all(label.get_fontsize() >= 5.5 for label in labels)
    assert_labels_apart(display.ax_, labels, across=False)
    assert_labels_apart(display.ax_, display.ax_.texts, across=False)
    legend = display.ax_.get_legend().get_window_extent()
    assert (
        legend.x0 >= 0
        and legend.x1 <= display.figure_.bbox.width
        and legend.y1 <= display.figure_.bbox.height
    )


def test_sizes_beyond_the_full_dimension_and_of_nothing():
    display = EmbeddingSizeDisplay([64], ["a"], [3], 16).plot()
    assert display.ax_.get_xlim()[1] > 64
    EmbeddingSizeDisplay([], [], [], 16).plot().figure_.draw_without_rendering()


def test_sizes_of_a_fitted_estimator(searched, plain):
    display = EmbeddingSizeDisplay.from_estimator(searched)
    n_ids = searched.encoder_.n_ids_
    assert display.field_names == ["f0", "f1", "f2", "f3", "n0", "s0"]
    assert display.n_values == [*n_ids, None, *searched.encoder_.sequence_n_ids_]
    assert display.dim == searched.architecture_["embedding_dim"]
    np.testing.assert_allclose([bar.get_width() for bar in display.bars_], [4, 2.5, 0, 8, 1, 3])
    assert remarks(display)[1] == f"{n_ids[1]} values, 50% empty" and remarks(display)[4] == ""
    with pytest.raises(AttributeError):
        EmbeddingSizeDisplay.from_estimator(plain)


# SearchHistoryDisplay
# -----------------------------------------------------------------------------------

FIRST = [
    {"epoch": e, "train_loss": 1 / e, "lr": 0.1, "open_gates": 10 - e, "note": "x", "on": True}
    for e in (1, 2, 3)
]
SECOND = [
    {"epoch": e, "train_loss": 2 / e, "search_loss": 3 / e, "lr": 0.1, "sparsity": 0.1 * e}
    for e in (1, 2)
]
FINAL = [
    {"epoch": e, "train_loss": 0.5 / e, "valid_loss": 0.6 / e, "lr": 0.1} for e in (1, 2, 3, 4)
]


def named(records, **fields):
    return [record | fields for record in records]


def drawn_lines(ax):
    """{label: [(x, y) of every run]}; later runs of a figure have no label of their own, but its
    colour.
    """
    label_of, found = {}, {}
    for line in ax.lines:
        if line.get_linestyle() == ":":
            continue
        if not line.get_label().startswith("_"):
            label_of[line.get_color()] = line.get_label()
        found.setdefault(label_of[line.get_color()], []).append(
            (list(line.get_xdata()), list(line.get_ydata()))
        )
    return found


def borders(ax):
    return [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]


def test_every_epoch_is_drawn_once_and_runs_apart():
    display = SearchHistoryDisplay(FIRST + SECOND, FINAL).plot()
    assert drawn_lines(display.ax_) == {
        "training": [
            ([1, 2, 3], [1, 1 / 2, 1 / 3]),
            ([4, 5], [2, 1]),
            ([6, 7, 8, 9], [r["train_loss"] for r in FINAL]),
        ],
        "search": [([4, 5], [3, 1.5])],
        "validation": [([6, 7, 8, 9], [r["valid_loss"] for r in FINAL])],
    }
    assert list(display.axes_) == [
        "train_loss",
        "search_loss",
        "valid_loss",
        "open_gates",
        "sparsity",
    ]
    assert drawn_lines(display.axes_["open_gates"]) == {"open_gates": [([1, 2, 3], [9, 8, 7])]}
    assert drawn_lines(display.axes_["sparsity"]) == {"sparsity": [([4, 5], [0.1, 0.2])]}
    for ax in display.figure_.axes:
        assert borders(ax) == [3.5, 5.5] and ax.get_xlim() == (0.5, 9.5)
    assert texts(display.ax_.texts) == ["search 1", "search 2", "final training"]
    assert texts(display.ax_.get_legend().get_texts()) == ["training", "search", "validation"]
    assert [ax.get_xlabel() for ax in display.figure_.axes] == ["", "", "epoch, numbered through"]


@pytest.mark.parametrize(
    "fields, expected",
    [
        (({}, {}), ["search 1", "search 2"]),
        (({"method": "AutoFIS"}, {"method": "PEP"}), ["AutoFIS", "PEP"]),
        (({"slot": "interaction"}, {"slot": "embedding"}), ["interaction", "embedding"]),
        (
            ({"method": "AutoFIS", "slot": "interaction"}, {"slot": "b"}),
            ["AutoFIS (interaction)", "b"],
        ),
        (({"method": "A"}, {"method": "A"}), ["A", "A"]),
    ],
)
def test_names_of_runs(fields, expected):
    display = SearchHistoryDisplay(named(FIRST, **fields[0]) + named(SECOND, **fields[1]), FINAL)
    assert [name for name, *_ in display.runs()] == [*expected, "final training"]
    assert [span for _, *span in display.runs()] == [[1, 3], [4, 5], [6, 9]]
    assert texts(display.plot().ax_.texts) == [*dict.fromkeys(expected), "final training"]
    assert display.figures() == ["open_gates", "sparsity"]  # names are no figures


def test_a_search_that_goes_on_under_another_name_is_another_run():
    records = named(FIRST[:1], method="A") + named(FIRST[1:], method="B")  # epochs go on
    assert SearchHistoryDisplay(records, []).runs() == [("A", 1, 1), ("B", 2, 3)]


def test_calls_of_partial_fit_are_one_training():
    display = SearchHistoryDisplay([], FINAL[:1] * 3).plot()
    assert display.runs() == [("final training", 1, 3)]
    assert borders(display.ax_) == [] and texts(display.ax_.texts) == []
    assert display.ax_.get_xlabel() == "epoch"


def test_given_axes_get_the_losses_only():
    figure, ax = plt.subplots()
    display = SearchHistoryDisplay(FIRST + SECOND, FINAL).plot(ax)
    assert list(drawn_lines(ax)) == ["training", "search", "validation"]
    assert figure.axes == [ax] and set(display.axes_.values()) == {ax}


def test_learning_rate_has_a_panel_only_if_it_changes():
    assert "lr" not in SearchHistoryDisplay(FIRST, FINAL).figures()
    falling = SearchHistoryDisplay(
        FIRST, named(FINAL[:2], lr=0.1) + named(FINAL[2:], lr=1e-3)
    ).plot()
    assert falling.axes_["lr"].get_yscale() == "log"
    little = SearchHistoryDisplay(FIRST, named(FINAL, lr=0.05)).plot()
    assert little.axes_["lr"].get_yscale() == "linear"


def test_what_is_no_finite_number_is_left_out():
    records = [
        {"epoch": 1, "train_loss": 1.0, "odd_loss": np.nan, "ok": np.float32(1)},
        {
            "epoch": 2,
            "train_loss": np.inf,
            "odd_loss": 2.0,
            "ok": None,
            "list": [1, 2],
            "never": np.nan,
        },
    ]
    display = SearchHistoryDisplay(records, []).plot()
    display.figure_.draw_without_rendering()
    assert [key for key in display.axes_ if not key.endswith("_loss")] == ["ok"]
    assert drawn_lines(display.axes_["ok"])["ok"][0][1][0] == 1
    assert list(drawn_lines(display.ax_)) == ["training", "odd"]


def test_many_runs_and_many_epochs():
    runs = [
        record
        for i in range(12)
        for record in named(FIRST, method=f"ALongNameOfMethod{i}", depth=i)
    ]
    display = SearchHistoryDisplay(runs, FINAL * 50).plot()
    display.figure_.draw_without_rendering()
    shown = display.ax_.texts
    assert 1 < len(shown) < 13 and {t.get_rotation() for t in shown} == {35}
    assert len(borders(display.ax_)) == 12
    for text in shown:
        assert text.get_window_extent().x1 <= display.figure_.bbox.width + 1
    few = SearchHistoryDisplay(named(FIRST, method="AutoFIS"), FINAL).plot()
    assert {t.get_rotation() for t in few.ax_.texts} == {0}


def test_history_of_a_fitted_estimator(searched, plain):
    display = SearchHistoryDisplay.from_estimator(searched)
    (first, second) = drawn_lines(display.ax_)["training"]
    assert first == ([1, 2, 3], [r["train_loss"] for r in searched.search_history_])
    assert second == ([4, 5], [r["train_loss"] for r in searched.history_])
    gates = drawn_lines(display.axes_["open_gates"])["open_gates"]
    assert gates == [([1, 2, 3], [r["open_gates"] for r in searched.search_history_])]
    without = SearchHistoryDisplay.from_estimator(plain)
    assert without.figure_.axes == [without.ax_] and borders(without.ax_) == []


@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.SingleClassWarning")
def test_nothing_was_trained(data):
    X, y = data
    constant = CTRClassifier(network="fm").fit(X, np.zeros(len(y)))
    with pytest.raises(ValueError, match="nothing to draw: no epoch was trained"):
        SearchHistoryDisplay.from_estimator(constant)
