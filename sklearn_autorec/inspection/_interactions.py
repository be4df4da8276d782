"""Interactions that a search kept, beside all it could choose from."""

from typing import Any, Literal, Self

import numpy as np

from ._plotting import (
    ACCENT,
    DARK,
    LIGHT,
    Display,
    font_for,
    label_rows,
    legend_above,
    points,
    settle,
    shorten,
)

BAR_LABEL = 44  # characters of a bar's label, shared by the fields of the interaction


class InteractionDisplay(Display):
    """Strength of interactions, and which of them the search kept.

    Usually made by `from_estimator`.

    Parameters
    ----------
    interactions : list of tuple of str
        Interactions that the search kept.
    scores : dict of tuple of str to float
        Score of every candidate; larger is stronger.
    field_names : list of str
        All fields, in the order of the matrix.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    im_ : matplotlib AxesImage or None
        The matrix.
    bars_ : matplotlib BarContainer or None
        The bars, strongest first.

    Examples
    --------
    >>> from sklearn_autorec.inspection import InteractionDisplay
    >>> display = InteractionDisplay(
    ...     interactions=[("user", "weekday")],
    ...     scores={("user", "item"): 0.4, ("user", "weekday"): 1.7, ("item", "weekday"): 0.1},
    ...     field_names=["user", "item", "weekday"],
    ... )
    >>> display.strengths()
    array([[nan, 0.4, 1.7],
           [0.4, nan, 0.1],
           [1.7, 0.1, nan]])

    With matplotlib, ``display.plot()`` draws it.
    """

    def __init__(self, interactions, scores, field_names):
        self.interactions = interactions
        self.scores = scores
        self.field_names = field_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        kind: Literal["matrix", "bar"] = "matrix",
        max_bars: int = 20,
        cmap: str = "Blues",
        colorbar: bool = True,
        ax: Any = None,
    ) -> Self:
        """Draw the interactions that a fitted estimator found.

        Parameters
        ----------
        estimator : CTRClassifier, RatingRegressor, GLIDER, AEFE, AutoCross or Pipeline
            Fitted, networks with a search that chooses interactions; a pipeline must end with such
            an estimator. Scores are those of its search: the mean strength of each pair (GLIDER,
            AEFE), or the gain of each cross found (AutoCross, which keeps no score of the others).
        kind, max_bars, cmap, colorbar, ax
            See `plot`.

        Returns
        -------
        InteractionDisplay
        """
        estimator = cls._fitted(estimator)
        display = cls(*found_by(estimator))
        return display.plot(kind=kind, max_bars=max_bars, cmap=cmap, colorbar=colorbar, ax=ax)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: Literal["matrix", "bar"] = "matrix",
        max_bars: int = 20,
        cmap: str = "Blues",
        colorbar: bool = True,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure, large enough for the fields, if None.
        kind : {"matrix", "bar"}, default="matrix"
            All pairs as a symmetric matrix with the kept ones outlined, or bars of the strongest
            interactions of any order.
        max_bars : int, default=20
            Bars at most.
        cmap : str or matplotlib Colormap, default="Blues"
            Colours of the matrix.
        colorbar : bool, default=True
            Whether the matrix has a colour bar.

        Returns
        -------
        self : InteractionDisplay
        """
        self._needs_matplotlib("plot")
        if kind not in ("matrix", "bar"):
            raise ValueError(f"kind must be 'matrix' or 'bar', got {kind!r}.")
        if max_bars < 1:
            raise ValueError(f"max_bars must be at least 1, got {max_bars!r}.")
        self.im_ = self.bars_ = None
        if kind == "matrix":
            self._plot_matrix(ax, cmap, colorbar)
        else:
            self._plot_bars(ax, max_bars)
        return self

    def strengths(self):
        """Scores of the pairs as a symmetric array (n_fields, n_fields), NaN where there is no
        candidate.
        """
        place = {name: i for i, name in enumerate(self.field_names)}
        matrix = np.full((len(place), len(place)), np.nan)
        for fields, score in self.scores.items():
            if len(fields) == 2:
                i, j = (place[name] for name in fields)
                matrix[i, j] = matrix[j, i] = score
        return matrix

    def _plot_matrix(self, ax, cmap, colorbar):
        from matplotlib import colormaps
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle

        matrix = self.strengths()
        pairs = [fields for fields in self.scores if len(fields) == 2]
        if self.scores and not pairs:
            raise ValueError(
                "There are no pairs among the candidates; draw higher orders with kind='bar'."
            )
        n = len(matrix)
        labels = [shorten(name) for name in self.field_names]
        side = float(np.clip(0.2 * n, 3.6, 10))
        margin = 0.085 * max(len(label) for label in labels)
        ax = self._draw_on(
            ax, side + margin + 0.9 * colorbar, side + margin + 0.3, layout="compressed"
        )

        colors = colormaps.get_cmap(cmap).with_extremes(bad="#d9d9d9")
        finite = matrix[np.isfinite(matrix)]
        low, high = min([0.0, *finite]), max([0.0, *finite])
        self.im_ = ax.imshow(
            np.ma.masked_invalid(matrix),
            cmap=colors,
            vmin=low,
            vmax=high if high > low else low + 1,
            interpolation="nearest",
        )
        kept = [fields for fields in self.interactions if len(fields) == 2]
        place = {name: i for i, name in enumerate(self.field_names)}
        if colorbar:
            # Inside the axes' own coordinates: as high as the matrix, whatever room the layout
            # leaves.
            bar = ax.figure.colorbar(self.im_, cax=ax.inset_axes((1.02, 0, 0.035, 1)))
            bar.set_label("score", fontsize=9)
            bar.ax.tick_params(labelsize=8)
            bar.outline.set_visible(False)
        title = f"{len(kept)} of {len(pairs)} pairs kept (outlined)" if pairs else "no interactions"
        higher = len(self.interactions) - len(kept)
        if higher:
            title += f"\nnot shown: {higher} kept of higher order"
        ax.set_title(title, fontsize=11)
        for laid_out in (False, True):
            if laid_out:
                settle(ax)  # title, colour bar and the first labels have taken their room
            cell = min(points(ax)) / n
            font = font_for(cell)
            # Labels need rows of their own: where cells are too small, only every so many fields
            # are named.
            ticks = np.arange(0, n, int(np.ceil(1.15 * font / cell)))
            upright = 0.65 * font * max(len(label) for label in labels) < cell
            for axis, rotation in ((ax.xaxis, 0 if upright else 90), (ax.yaxis, 0)):
                axis.set_ticks(
                    ticks,
                    [labels[i] for i in ticks],
                    fontsize=font,
                    rotation=rotation,
                    parse_math=False,
                )
                axis.set_tick_params(length=2)
        outlines = [
            # Inside its cell, so that neighbours stay apart.
            Rectangle((b - 0.4, a - 0.4), 0.8, 0.8)
            for i, j in ((place[x], place[y]) for x, y in kept)
            for a, b in ((i, j), (j, i))
        ]
        ax.add_collection(
            PatchCollection(
                outlines,
                facecolor="none",
                edgecolor=ACCENT,
                linewidth=float(np.clip(0.1 * cell, 0.5, 2)),
            ),
            autolim=False,
        )

    def _plot_bars(self, ax, max_bars):
        from matplotlib.patches import Patch

        ranked = sorted(
            self.scores, key=lambda fields: -np.nan_to_num(self.scores[fields], nan=-np.inf)
        )
        shown = ranked[:max_bars]
        kept = {frozenset(fields) for fields in self.interactions}
        ax = self._draw_on(ax, 7.0, 0.25 * len(shown) + 1.2)
        colors = [DARK if frozenset(fields) in kept else LIGHT for fields in shown]
        self.bars_ = ax.barh(
            range(len(shown)), [self.scores[t] for t in shown], color=colors, height=0.75
        )
        labels = [
            " × ".join(shorten(name, max(BAR_LABEL // len(t), 8)) for name in t) for t in shown
        ]
        ax.set_xlabel(
            f"score ({len(shown)} strongest of {len(ranked)})"
            if len(shown) < len(ranked)
            else "score"
        )
        ax.spines[["top", "right"]].set_visible(False)
        counts = {DARK: f"kept ({len(kept)})", LIGHT: f"not kept ({len(ranked) - len(kept)})"}
        label_rows(ax, labels)
        legend_above(ax, [Patch(color=color, label=label) for color, label in counts.items()])


def found_by(estimator):
    """Kept interactions, scores and field names of a fitted estimator."""
    if not hasattr(estimator, "crosses_"):
        names = list(estimator.encoder_.field_names_)
        return estimator.interactions_, estimator.interaction_scores_, names
    if not hasattr(estimator, "interaction_scores_"):
        raise ValueError(
            f"estimator must have scores of its crosses, got {estimator!r:.200}, which was told "
            f"them."
        )
    return estimator.crosses_, estimator.interaction_scores_, estimator.field_names_
