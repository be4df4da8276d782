"""The graph of operations that a search has put together, from left to right."""

from typing import Any, Self

import numpy as np

from ._graph_layout import GAP, MARGIN, layout_of
from ._plotting import DARK, GREY, LIGHT, Display, points, settle

FONT = 9.0  # at which labels fit their boxes
KINDS = {  # colours of the face, the edge and the label
    "input": (LIGHT, DARK, "black"),
    "operation": ("white", DARK, "black"),
    "sum": ("#f2f2f2", GREY, "black"),
    "output": (DARK, DARK, "white"),
}


class ArchitectureDisplay(Display):
    """Operations that a search has put together, and what goes from where to where.

    What reads nothing stands on the left, what nothing reads on the right. Arrows pass between
    boxes, never over them. Usually made by `from_estimator`.

    Parameters
    ----------
    nodes : list of (str, str, str)
        Name, label and kind ("input", "operation", "sum" or "output") of each.
    edges : list of (str, str)
        Names, from where to where.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    boxes_ : dict of str to matplotlib FancyBboxPatch
    texts_ : dict of str to matplotlib Text
    arrows_ : dict of (str, str) to matplotlib FancyArrowPatch

    Examples
    --------
    >>> from sklearn_autorec.inspection import ArchitectureDisplay
    >>> nodes = [
    ...     ("sparse", "ids and lists", "input"),
    ...     ("block 0", "FM", "operation"),
    ...     ("block 1", "MLP 64", "operation"),
    ...     ("output", "logits", "output"),
    ... ]
    >>> edges = [
    ...     ("sparse", "block 0"),
    ...     ("sparse", "block 1"),
    ...     ("block 0", "block 1"),
    ...     ("block 1", "output"),
    ... ]
    >>> ArchitectureDisplay(nodes, edges).columns()
    {'sparse': 0, 'block 0': 1, 'block 1': 2, 'output': 3}

    With matplotlib, ``display.plot()`` draws it.
    """

    def __init__(self, nodes, edges):
        self.nodes = nodes
        self.edges = edges

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw what the search of a fitted estimator has put together.

        Parameters
        ----------
        estimator : CTRClassifier, RatingRegressor or Pipeline
            Fitted, with a search that finds a graph of operations (`AutoCTR`, `AutoPI`); a pipeline
            must end with such an estimator.
        ax : matplotlib Axes, default=None
            See `plot`.

        Returns
        -------
        ArchitectureDisplay
        """
        return cls(*cls._fitted(estimator).architecture_graph_).plot(ax=ax)

    def columns(self):
        """Number of the column of each node, from the left: its longest way from the inputs."""
        return layout_of(self.nodes, self.edges).column

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure, large enough for the graph, if None.

        Returns
        -------
        self : ArchitectureDisplay

        Raises
        ------
        ValueError
            If names stand twice or are not there, a kind is unknown, or edges go round.
        """
        self._needs_matplotlib("plot")
        from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

        layout = layout_of(self.nodes, self.edges)
        unknown = [kind for _, _, kind in self.nodes if kind not in KINDS]
        if unknown:
            raise ValueError(f"kinds of nodes must be out of {[*KINDS]}, got {unknown[0]!r}.")
        ax = self._draw_on(ax, layout.width + 2 * MARGIN, layout.height + 2 * MARGIN)
        ax.set_xlim(-MARGIN, layout.width + MARGIN)
        ax.set_ylim(-layout.height / 2 - MARGIN, layout.height / 2 + MARGIN)
        ax.set_aspect("equal")
        ax.set_axis_off()
        settle(ax)
        # Of axes smaller than the graph everything is as much smaller.
        scale = min(
            room / (72 * size)
            for room, size in zip(
                points(ax), (layout.width + 2 * MARGIN, layout.height + 2 * MARGIN), strict=True
            )
        )
        scale = min(scale, 1.0)
        self.boxes_, self.texts_, self.arrows_ = {}, {}, {}
        for name, _, kind in self.nodes:
            face, edge, color = KINDS[kind]
            (x, y), (width, height) = layout.center[name], layout.size[name]
            self.boxes_[name] = ax.add_patch(
                FancyBboxPatch(
                    (x - width / 2, y - height / 2),
                    width,
                    height,
                    boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor=face,
                    edgecolor=edge,
                    linewidth=1.2 * scale,
                    zorder=3,
                )
            )
            self.texts_[name] = ax.text(
                x,
                y,
                layout.label[name],
                ha="center",
                va="center",
                fontsize=FONT * scale,
                color=color,
                zorder=4,
                parse_math=False,
            )
        for (start, end), way in layout.ways.items():
            self.arrows_[start, end] = ax.add_patch(
                FancyArrowPatch(
                    path=curve(way),
                    arrowstyle="-|>",
                    mutation_scale=9 * scale,
                    color=GREY,
                    linewidth=1.1 * scale,
                    shrinkA=0,
                    shrinkB=0,
                    zorder=2,
                )
            )
        return self


def curve(way):
    """A path through points that leaves and reaches each horizontally; (n, 2) -> Path."""
    from matplotlib.path import Path

    corners, codes = [way[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in zip(way[:-1], way[1:], strict=True):
        bend = min(GAP, x1 - x0) / 2
        corners += [(x0 + bend, y0), (x1 - bend, y1), (x1, y1)]
        codes += [Path.CURVE4] * 3
    return Path(np.array(corners), codes)
