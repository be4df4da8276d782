"""The picture of a found graph: nothing lies over anything else, and everything is there."""

import numpy as np
import pytest
from searching import searching
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.inspection import ArchitectureDisplay
from sklearn_autorec.interaction import AutoPI

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


def random_graph(seed, n=9, odds=0.35):
    rng = np.random.default_rng(seed)
    names = [f"node {k}" for k in range(n)]
    nodes = [
        (name, "x" * int(rng.integers(1, 30)), ("input", "operation", "sum", "output")[k % 4])
        for k, name in enumerate(names)
    ]
    edges = [
        (names[i], names[j]) for i in range(n) for j in range(i + 1, n) if rng.uniform() < odds
    ]
    return nodes, edges


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("small", [False, True])
def test_nothing_lies_over_anything_else(seed, small):
    nodes, edges = random_graph(seed)
    ax = plt.figure(figsize=(4, 2), layout="constrained").add_subplot() if small else None
    display = ArchitectureDisplay(nodes, edges).plot(ax=ax)
    figure = display.figure_
    figure.draw_without_rendering()
    assert (display.ax_ is ax) == small
    boxes = {name: patch.get_window_extent() for name, patch in display.boxes_.items()}
    assert [*boxes] == [name for name, *_ in nodes]
    for name, box in boxes.items():
        text = display.texts_[name].get_window_extent()
        assert box.x0 <= text.x0 and text.x1 <= box.x1 and box.y0 <= text.y0 and text.y1 <= box.y1
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for key, other in boxes.items() if key != name)
    assert set(display.arrows_) == set(edges)
    data = display.ax_.transData
    for (start, end), arrow in display.arrows_.items():
        vertices = arrow._path_original.vertices
        # A last piece of no length would have no direction, and no head.
        assert vertices[-1, 0] - vertices[-2, 0] > 0.005 and vertices[-1, 1] == vertices[-2, 1]
        way = data.transform(arrow._path_original.interpolated(1).to_polygons(closed_only=False)[0])
        fine = np.concatenate(
            [np.linspace(a, b, 9) for a, b in zip(way[:-1], way[1:], strict=True)]
        )
        assert abs(fine[0, 0] - boxes[start].x1) < 1 and abs(fine[-1, 0] - boxes[end].x0) < 1
        for name, box in boxes.items():
            inside = (
                (fine[:, 0] > box.x0 + 1)
                & (fine[:, 0] < box.x1 - 1)
                & (fine[:, 1] > box.y0)
                & (fine[:, 1] < box.y1)
            )
            assert not inside.any(), (start, end, name)
        assert (np.diff(fine[:, 0]) > -1e-6).all()  # from left to right


def test_columns_are_the_longest_ways_and_long_names_lose_their_middle():
    nodes = [(name, "a_very_long_name_of_a_field_" + name, "operation") for name in "abcde"]
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("d", "c"), ("a", "b")]
    display = ArchitectureDisplay(nodes, edges)
    assert display.columns() == {"a": 0, "b": 1, "c": 2, "d": 0, "e": 0}
    display.plot()
    assert len(display.arrows_) == 4 and "…" in display.texts_["a"].get_text()
    x = {name: patch.get_window_extent().x0 for name, patch in display.boxes_.items()}
    assert x["a"] < x["b"] < x["c"]


def test_columns_are_sorted_so_that_arrows_do_not_cross():
    nodes = [(name, name, "operation") for name in ("a", "b", "c", "z", "y", "x")]
    edges = [("a", "x"), ("b", "y"), ("c", "z")]
    display = ArchitectureDisplay(nodes, edges).plot()
    y = {name: patch.get_window_extent().y0 for name, patch in display.boxes_.items()}
    assert all(y[start] == pytest.approx(y[end]) for start, end in edges)


def test_wrong_graphs_are_refused():
    node = ("a", "a", "input")
    for nodes, edges, told in (
        ([], [], "nodes must be some"),
        ([node, node], [], "with different names"),
        ([node], [("a", "b")], "edges must join names of nodes, got 'b'"),
        ([node, ("b", "b", "input")], [("a", "b"), ("b", "a")], "edges must not go round"),
        ([("a", "a", "table")], [], "kinds of nodes must be out of .* got 'table'"),
    ):
        with pytest.raises(ValueError, match=told):
            ArchitectureDisplay(nodes, edges).plot()


@pytest.fixture(scope="module")
def clicks():
    return mixed_clicks(300, cardinality=5, pairs=1)


def test_a_fitted_model_is_drawn_by_what_its_method_tells(clicks):
    found = {
        "method": "AutoPI",
        "n_fields": clicks[0].shape[1],
        "interaction_cell": [[[0, "fm"]], [[0, "skip"], [1, "fc"]]],
        "ensemble_cell": [[[0, "skip"], [1, "conv"]]],
    }
    model = searching(FixedArchitecture(found), 0, network="fm").fit(*clicks)
    nodes, edges = model.architecture_graph_
    assert [(label, kind) for _, label, kind in nodes] == [
        ("embeddings", "input"),
        ("+", "sum"),
        ("fm", "operation"),
        ("+", "sum"),
        ("fc", "operation"),
        ("mean", "sum"),
        ("+", "sum"),
        ("conv", "operation"),
        ("logits", "output"),
    ]
    one, two, last = "interaction node 1", "interaction node 2", "ensemble node 1"
    assert ("embeddings", two) in edges and ("embeddings", last) in edges  # skip is the arrow alone
    assert {(one, "interaction cell"), (two, "interaction cell"), (last, "output")} <= {*edges}
    assert len(edges) == 2 + 1 + 2 + 2 + 1 + 2 + 1
    display = ArchitectureDisplay.from_estimator(model)
    assert set(display.boxes_) == {name for name, *_ in nodes}
    unread = {**found, "ensemble_cell": [[[0, "skip"]], [[2, "fc"]]]}
    names = [name for name, *_ in AutoPI().graph(unread, None)[0]]
    assert not any("interaction" in name for name in names) and len(names) == 1 + 2 + 1 + 1


def test_a_search_without_a_graph_is_told(clicks):
    model = CTRClassifier(network="fm", max_epochs=1, random_state=0).fit(*clicks)
    with pytest.raises(AttributeError, match="finds no graph of operations.*AutoCTR"):
        ArchitectureDisplay.from_estimator(model)


def test_matplotlib_is_asked_for_by_name(no_matplotlib):
    no_matplotlib()
    with pytest.raises(ImportError, match=r"ArchitectureDisplay.plot requires matplotlib"):
        ArchitectureDisplay([("a", "a", "input")], []).plot()
