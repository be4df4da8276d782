"""Embedding sizes that a search gave to fields, or to single values."""

from typing import Any, Self

import numpy as np

from ._plotting import ACCENT, DARK, GREY, Display, label_rows, legend_above, shorten


class EmbeddingSizeDisplay(Display):
    """Embedding size of every field, beside the full dimension.

    Usually made by `from_estimator`.

    Parameters
    ----------
    sizes : list of int or ndarray of int
        Size of each field, or the sizes of its values; 0 is an embedding that was dropped.
    field_names : list of str
    n_values : list of int or None
        Embedded values of each field; None for a number.
    dim : int
        The dimension without a search.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : matplotlib BarContainer
        From top to bottom.

    Examples
    --------
    >>> from sklearn_autorec.inspection import EmbeddingSizeDisplay
    >>> display = EmbeddingSizeDisplay(
    ...     sizes=[4, [16, 8, 0, 0]], field_names=["user", "item"], n_values=[120, 4], dim=16
    ... )
    >>> display.mean_sizes()
    array([4., 6.])

    With matplotlib, ``display.plot()`` draws it.
    """

    def __init__(self, sizes, field_names, n_values, dim):
        self.sizes = sizes
        self.field_names = field_names
        self.n_values = n_values
        self.dim = dim

    @classmethod
    def from_estimator(cls, estimator: Any, *, sort: bool = False, ax: Any = None) -> Self:
        """Draw the embedding sizes that a fitted estimator found.

        Parameters
        ----------
        estimator : CTRClassifier, RatingRegressor or Pipeline
            Fitted with a search that chooses embedding sizes; a pipeline must end with such an
            estimator.
        sort, ax
            See `plot`.

        Returns
        -------
        EmbeddingSizeDisplay
        """
        estimator = cls._fitted(estimator)
        found, encoder = estimator.embedding_sizes_, estimator.encoder_
        n_ids = [*encoder.n_ids_, *[None] * len(encoder.numeric_), *encoder.sequence_n_ids_]
        n_ids += [None] * len(encoder.vector_)
        known = dict(zip(encoder.field_names_, n_ids, strict=True))
        names = [name for name in known if name in found]
        display = cls(
            [found[name] for name in names],
            names,
            [known[name] for name in names],
            estimator.architecture_["embedding_dim"],
        )
        return display.plot(sort=sort, ax=ax)

    def mean_sizes(self):
        """Mean size of the values of each field, (n_fields,)."""
        return np.array([np.mean(size) if np.size(size) else 0.0 for size in self.sizes])

    def plot(self, ax: Any = None, *, sort: bool = False) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure, large enough for the fields, if None. The number of values
            stands to the right of the axes: give a figure of your own ``layout="constrained"`` to
            make room for it.
        sort : bool, default=False
            Whether the largest come first, instead of the order of the table.

        Returns
        -------
        self : EmbeddingSizeDisplay
        """
        self._needs_matplotlib("plot")
        from matplotlib.ticker import MaxNLocator

        n, means = len(self.sizes), self.mean_sizes()
        order = np.argsort(-means, kind="stable") if sort else np.arange(n)
        ax = self._draw_on(ax, 7.0, 0.22 * n + 1.2)
        by_value = any(np.ndim(size) for size in self.sizes)
        label = "mean size over values" if by_value else "size"
        self.bars_ = ax.barh(range(n), means[order], color=DARK, height=0.7, label=label)
        spread = [
            (row, *np.quantile(self.sizes[i], [0.25, 0.75]))
            for row, i in enumerate(order)
            if np.ndim(self.sizes[i]) and np.size(self.sizes[i])
        ]
        handles = [self.bars_]
        if spread:
            # Not error bars: the mean of sizes with many zeros may lie outside its quartiles.
            at, low, high = np.array(spread).T
            ax.hlines(at, low, high, color="white", linewidth=3.4)
            handles.append(ax.hlines(at, low, high, color=ACCENT, linewidth=1.8, label="quartiles"))
            ax.plot(np.r_[low, high], np.r_[at, at], "|", color=ACCENT, markersize=6)
        handles.append(
            ax.axvline(
                self.dim,
                color=GREY,
                linestyle="--",
                linewidth=1,
                label=f"full dimension ({self.dim})",
            )
        )
        ax.set_xlim(0, 1.03 * max([self.dim, *(np.max(size, initial=0) for size in self.sizes)]))
        # Sizes are powers of two.
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 4, 8, 10]))
        ax.set_xlabel("embedding size")
        ax.spines[["top", "right"]].set_visible(False)
        font = label_rows(ax, [shorten(self.field_names[i]) for i in order])
        right = ax.get_yaxis_transform()  # across in the axes' coordinates, down in rows
        for row, i in enumerate(order):
            ax.text(
                1.01, row, self._remark(i), transform=right, va="center", fontsize=font, color=GREY
            )
        legend_above(ax, handles)
        return self

    def _remark(self, i):
        """What the bar of field i does not tell: how many values share it, and how many of them got
        nothing.
        """
        size, n_values = self.sizes[i], self.n_values[i]
        remarks = [] if n_values is None else [f"{n_values:,} value" + "s" * (n_values != 1)]
        if np.ndim(size):
            empty = np.mean(np.asarray(size) == 0) if np.size(size) else 0.0
            # Rounded, a few values must not become none, nor nearly all become all.
            remarks.append(
                "<1% empty"
                if 0 < empty < 0.01
                else ">99% empty"
                if 0.99 < empty < 1
                else f"{empty:.0%} empty"
            )
        elif size == 0:
            remarks.append("dropped")
        return ", ".join(remarks)
