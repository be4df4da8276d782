"""What the displays share: the optional import, the estimator inside a pipeline, names and fonts
that fit.
"""

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

# Told apart by all common kinds of colour vision, and in grey.
DARK, LIGHT, ACCENT, GREY = "#1f4e79", "#c3d0dc", "#d95f02", "#555555"


def check_matplotlib(caller):
    """Raise an `ImportError` that names the caller and the extra to install."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} requires matplotlib. You can install it with `pip install "
            f'"sklearn-autorec[plot]"`.'
        ) from error


class Display:
    """What all displays have: their axes, and a refusal where matplotlib is not installed."""

    ax_: Any
    figure_: Any

    @classmethod
    def _needs_matplotlib(cls, method):
        check_matplotlib(f"{cls.__name__}.{method}")

    @classmethod
    def _fitted(cls, estimator):
        """What ``from_estimator`` draws: the fitted estimator, or the one that ends a pipeline."""
        cls._needs_matplotlib("from_estimator")
        while isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        check_is_fitted(estimator)
        return estimator

    def _draw_on(self, ax, width, height, layout="constrained"):
        """The axes given, whose figure is left as it is, or those of a new figure of so many
        inches; from now on those of the display.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(width, height), layout=layout)
        self.ax_, self.figure_ = ax, ax.figure
        return ax


def settle(ax):
    """Lay the figure out as it stands, so that the axes have the size at which they will be
    drawn.
    """
    figure = ax.figure.figure  # the whole one, should the axes lie in a part of it
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()


def points(ax):
    """Width and height of the axes in points, the unit of fonts."""
    box = ax.get_window_extent()
    return box.width * 72 / ax.figure.dpi, box.height * 72 / ax.figure.dpi


def font_for(row):
    """Font size for labels in rows ``row`` points high."""
    return float(np.clip(0.62 * row, 5.5, 10))


def label_rows(ax, labels):
    """Name the rows 0, 1, ... from the top in a font that fits them; returns its size."""
    n = max(len(labels), 1)
    ax.set_ylim(n - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    for laid_out in (False, True):
        if laid_out:
            settle(ax)  # the first labels have taken their room
        font = font_for(points(ax)[1] / n)
        ax.set_yticks(np.arange(len(labels)), labels, fontsize=font, parse_math=False)
    return font


def legend_above(ax, handles):
    """A legend above the axes, where no bar can be: in one row, or where that is too wide in fewer
    columns.
    """
    settle(ax)
    room = ax.get_window_extent().x1 - ax.get_tightbbox().x0  # over the labels of the rows as well
    for columns in sorted({len(handles), (len(handles) + 1) // 2, 2, 1}, reverse=True):
        legend = ax.legend(
            handles=handles,
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=columns,
            frameon=False,
            borderaxespad=0.2,
            fontsize=9,
        )
        if legend.get_window_extent().width <= room:
            break


def shorten(name, width=24):
    """A name of at most ``width`` characters; the middle goes, since names mostly differ at their
    ends.

    >>> shorten("user_last_seen_category", 12)
    'user_l…egory'
    """
    name = str(name)
    if len(name) <= width:
        return name
    head = width // 2
    return f"{name[:head]}…{name[len(name) - (width - head - 1) :]}"
