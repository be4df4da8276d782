"""What the tests of displays share."""

import numpy as np

from sklearn_autorec import CTRClassifier


class SizedClassifier(CTRClassifier):
    """Stands for an estimator with a search for embedding sizes."""

    embedding_sizes_ = {"f0": 4, "f1": np.array([0, 0, 2, 8]), "f2": 0, "f3": 8, "n0": 1, "s0": 3}


def names(n):
    return [
        "user",
        "item",
        *(f"feature_{i}_with_a_rather_long_name" if i % 3 else f"C{i}" for i in range(2, n)),
    ]


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
