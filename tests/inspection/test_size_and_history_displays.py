"""Displays of embedding sizes and of histories."""

import numpy as np
import pytest
from displays_cases import assert_labels_apart, names, texts

from sklearn_autorec import CTRClassifier
from sklearn_autorec.inspection import (
    EmbeddingSizeDisplay,
    SearchHistoryDisplay,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

plt = pytest.importorskip("matplotlib.pyplot")


from sklearn_autorec.inspection._plotting import shorten  # noqa: E402


def remarks(display):
    return texts(display.ax_.texts)


# EmbeddingSizeDisplay
# -----------------------------------------------------------------------------------


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


# SearchHistoryDisplay
# -----------------------------------------------------------------------------------


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
