"""Epochs of the searches and of the final training."""

import textwrap
from numbers import Real
from typing import Any, Self

import numpy as np

from ._candidates import CandidateHistoryDisplay
from ._plotting import ACCENT, DARK, GREY, Display, points, settle, shorten

FINAL = "final training"
WORDS = {"lr": "learning rate", "valid_score": "validation score"}
LOSSES = {
    "train_loss": ("training", DARK),
    "valid_loss": ("validation", ACCENT),
    "search_loss": ("search", "#4d9221"),
}


class SearchHistoryDisplay(Display):
    """Losses and other figures of every epoch: first the searches, then the final training.

    Usually made by `from_estimator`.

    Parameters
    ----------
    search_history, history : list of dict
        One record an epoch, with "epoch", "train_loss" and other figures, or one a candidate,
        with "candidate" instead. A "method" or "slot"
        tells which search it belongs to; without them a new search begins wherever "epoch" starts
        again.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The losses.
    axes_ : dict of str to matplotlib Axes
        Of every figure drawn, by its key in the records; losses share one.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn_autorec.inspection import SearchHistoryDisplay
    >>> display = SearchHistoryDisplay(
    ...     search_history=[
    ...         {"epoch": 1, "train_loss": 0.7, "open_gates": 45},
    ...         {"epoch": 2, "train_loss": 0.6, "open_gates": 9},
    ...     ],
    ...     history=[{"epoch": 1, "train_loss": 0.5}],
    ... )
    >>> display.runs()
    [('search', 1, 2), ('final training', 3, 3)]
    >>> display.figures()
    ['open_gates']

    With matplotlib, ``display.plot()`` draws it.
    """

    def __init__(self, search_history, history):
        self.search_history = search_history
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self | CandidateHistoryDisplay:
        """Draw the epochs of a fitted estimator.

        Parameters
        ----------
        estimator : CTRClassifier, RatingRegressor, Pipeline or fitted search
            Fitted, with or without a search; a pipeline must end with such an estimator. A search
            over hyperparameters (with ``cv_results_``) has no epochs of its own, its candidates are
            drawn.
        ax : matplotlib Axes, default=None
            See `plot`.

        Returns
        -------
        SearchHistoryDisplay or CandidateHistoryDisplay
        """
        estimator = cls._fitted(estimator)
        if hasattr(estimator, "cv_results_"):
            return CandidateHistoryDisplay.from_estimator(estimator, ax=ax)
        return cls(estimator.search_history_, estimator.history_).plot(ax=ax)

    def runs(self):
        """(name, first, last) of every run, its epochs numbered through from 1; the final training
        is the last run.
        """
        runs, previous = [], None
        for x, record in enumerate(self.search_history, 1):
            name = _name(record)
            if previous is None or name != runs[-1][0] or _number(record) <= _number(previous):
                runs.append([name, x, x])
            runs[-1][2] = x
            previous = record
        if len(runs) > 1 and all(name is None for name, *_ in runs):
            runs = [[f"search {i}", *span] for i, (_, *span) in enumerate(runs, 1)]
        # The final training is one run, although epochs start again in every call of partial_fit.
        if self.history:
            start = len(self.search_history)
            runs.append([FINAL, start + 1, start + len(self.history)])
        return [(name or "search", first, last) for name, first, last in runs]

    def figures(self):
        """Keys of the figures that get a panel of their own: finite numbers, no losses, and no
        constant rate.
        """
        records = [*self.search_history, *self.history]
        keys = [
            key
            for key in dict.fromkeys(key for record in records for key in record)
            if not _is_loss(key)
        ]
        keys = [
            key
            for key in keys
            if key not in ("epoch", "candidate")
            and any(_is_finite(record.get(key)) for record in records)
        ]
        constant = len({record["lr"] for record in records if "lr" in record}) < 2
        return [key for key in keys if not (key == "lr" and constant)]

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw the losses, and nothing else; if None, a new figure with a panel for every
            figure.

        Returns
        -------
        self : SearchHistoryDisplay
        """
        self._needs_matplotlib("plot")
        records = [*self.search_history, *self.history]
        if not records:
            raise ValueError("There is nothing to draw: no epoch was trained.")
        losses = [
            key
            for key in dict.fromkeys(key for record in records for key in record)
            if _is_loss(key)
        ]
        panels = [] if ax is not None else self.figures()
        if panels:
            import matplotlib.pyplot as plt

            self.figure_, axes = plt.subplots(
                1 + len(panels),
                figsize=(7.0, 3.0 + 1.1 * len(panels)),
                height_ratios=[2.2] + [1] * len(panels),
                sharex=True,
                layout="constrained",
            )
            self.ax_ = axes[0]
        else:
            axes = [self._draw_on(ax, 7.0, 3.4)]
        self.axes_ = dict.fromkeys(losses, self.ax_) | dict(zip(panels, axes[1:], strict=True))

        runs = self.runs()
        palette = iter(("#7b3294", "#008080", "#8c6d1f", "#b03060"))
        for key in losses:
            label, color = LOSSES.get(key) or (
                key.removesuffix("_loss").replace("_", " "),
                next(palette, GREY),
            )
            self._draw(self.ax_, key, runs, label=label, color=color)
        self.ax_.set_ylabel("loss")
        self.ax_.legend(frameon=False, fontsize=9)
        for key, panel in zip(panels, axes[1:], strict=True):
            values = self._draw(panel, key, runs, label=key, color=DARK)
            words = shorten(WORDS.get(key, key.replace("_", " ")), 26)
            panel.set_ylabel(textwrap.fill(words, 14), fontsize=8.5, parse_math=False)
            panel.tick_params(axis="y", labelsize=8)
            if key == "lr" and min(values) > 0 and max(values) >= 9 * min(values):
                panel.set_yscale("log")
        for panel in axes:
            for _, first, _ in runs[1:]:
                panel.axvline(first - 0.5, color=GREY, linewidth=0.8, linestyle=":")
            panel.grid(axis="y", color="#e6e6e6", linewidth=0.6)
            panel.set_axisbelow(True)
            panel.spines[["top", "right"]].set_visible(False)
        bottom = axes[-1]
        bottom.set_xlim(0.5, len(records) + 0.5)
        bottom.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        bottom.set_xlabel("epoch, numbered through" if len(runs) > 1 else "epoch")
        self._name_runs(runs, len(records))
        if ax is None:
            self.figure_.align_ylabels(axes)
        return self

    def _draw(self, ax, key, runs, **style):
        """One line per run, so that no run seems to go on from the one before; returns the finite
        values.
        """
        records, drawn = [*self.search_history, *self.history], []
        for _, first, last in runs:
            values = [
                float(record[key]) if _is_finite(record.get(key)) else np.nan
                for record in records[first - 1 : last]
            ]
            if not np.isfinite(values).any():
                continue
            # A dot for every epoch, since a run of a single one has no line; many would only
            # thicken it.
            marker = "." if last - first < 60 else None
            ax.plot(
                np.arange(first, last + 1),
                values,
                marker=marker,
                markersize=5,
                linewidth=1.4,
                **style,
            )
            drawn += [value for value in values if np.isfinite(value)]
            style["label"] = None  # named once
        return drawn

    def _name_runs(self, runs, n_epochs):
        """Names above the losses, slanted where they would run into each other."""
        groups = []  # runs of one method that follow each other share a name
        for name, first, last in runs:
            if groups and groups[-1][0] == name:
                groups[-1][2] = last
            else:
                groups.append([name, first, last])
        if len(groups) < 2 and groups[0][0] in ("search", FINAL):
            return
        settle(self.ax_)
        font = 8.5
        epoch = points(self.ax_)[0] / n_epochs
        labels = [shorten(name) for name, *_ in groups]
        fits = all(
            0.62 * font * len(label) < epoch * (last - first + 1)
            for label, (_, first, last) in zip(labels, groups, strict=True)
        )
        free = -np.inf
        for label, (_, first, last) in zip(labels, groups, strict=True):
            middle = (first + last) / 2
            if (middle - free) * epoch < 1.3 * font:
                continue  # no room for one more slanted name
            free = middle
            self.ax_.annotate(
                label,
                (middle, 1),
                (0, 3),
                xycoords=self.ax_.get_xaxis_transform(),
                textcoords="offset points",
                rotation=0 if fits else 35,
                rotation_mode="anchor",
                ha="center" if fits else "left",
                va="bottom",
                fontsize=font,
                color=GREY,
                annotation_clip=False,
                parse_math=False,
            )


def _name(record):
    """Which search a record belongs to, or None."""
    method, slot = record.get("method"), record.get("slot")
    return f"{method} ({slot})" if method and slot else method or slot


def _number(record):
    """The number of an epoch, or of a candidate that a search has evaluated."""
    return record["epoch"] if "epoch" in record else record["candidate"]


def _is_loss(key):
    return key == "loss" or key.endswith("_loss")


def _is_finite(value):
    """Whether a record's entry is a figure that can be drawn."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_) and np.isfinite(value)
