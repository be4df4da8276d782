"""Score against the number of fields, of a selection and of its baselines."""

from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ._plotting import ACCENT, DARK, GREY, Display, legend_above, points, settle, shorten

# Beside the selection itself, each told apart by colour, dashes and marker.
STYLES = (
    ("#008080", (0, (5, 2)), "s"),
    ("#7b3294", (0, (3, 1, 1, 1)), "^"),
    ("#8c6d1f", (0, (1, 1)), "D"),
    ("#b03060", (0, (7, 2, 2, 2)), "v"),
    ("#4d9221", (0, (2, 2)), "P"),
)


class SelectionPathDisplay(Display):
    """Best score of every number of fields that a selection tried, beside baselines.

    Usually made by `from_estimator`.

    Parameters
    ----------
    paths : dict of str to (n_fields, scores)
        Numbers of fields and the best score of each; the first is that of the selection.
    tried : (n_fields, scores) or None, default=None
        All subsets that the selection fitted, drawn as dots.
    chosen : (n_fields, score) or None, default=None
        What it kept.
    levels : dict of str to float, default=None
        Scores drawn all across, such as that of a constant prediction.
    score_name : str, default="score"

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
        Of every path, by its name.

    Examples
    --------
    >>> from sklearn_autorec.inspection import SelectionPathDisplay
    >>> history = [
    ...     {"subset": (0, 1, 2), "score": 0.7},
    ...     {"subset": (1,), "score": 0.6},
    ...     {"subset": (2,), "score": 0.8},
    ... ]
    >>> SelectionPathDisplay.path_of(history)
    (array([1, 3]), array([0.8, 0.7]))

    With matplotlib, ``SelectionPathDisplay({"mine": ([1, 2, 3], [0.6, 0.7, 0.7])}).plot()`` draws a
    path of your own."""

    def __init__(self, paths, tried=None, chosen=None, levels=None, score_name="score"):
        self.paths = paths
        self.tried = tried
        self.chosen = chosen
        self.levels = levels
        self.score_name = score_name

    @classmethod
    def from_estimator(cls, estimator: Any, *, baselines: Any = None, ax: Any = None) -> Self:
        """Draw the path of a fitted selector.

        Parameters
        ----------
        estimator : selector or Pipeline
            Fitted; `FSTD`, `SensitivitySelector` and all others that score subsets.
        baselines : dict of str to selector, Pipeline, (n_fields, scores) or float, default=None
            What to draw beside it: the paths of other fitted selectors, scores of other subsets
            (those that scikit-learn's ``SelectFromModel`` keeps at several thresholds, say), or a
            single score.
        ax : matplotlib Axes, default=None
            See `plot`.

        Returns
        -------
        SelectionPathDisplay

        Notes
        -----
        The best of many scores is too good, the more so the more there were: compare selectors with
        as many evaluations (they are in the legend) and the same folds."""
        cls._needs_matplotlib("from_estimator")
        selector = _selector_in(estimator, "estimator")
        tried = _scored(selector, "estimator")
        paths = {
            _named(type(selector).__name__, selector): _with_gaps(
                *cls.path_of(selector.search_history_)
            )
        }
        levels = {"no fields": selector.no_fields_score_}
        for name, baseline in (baselines or {}).items():
            where = f"baselines[{name!r}]"
            if isinstance(baseline, Real):
                levels[name] = float(baseline)
            elif isinstance(baseline, tuple | list):
                paths[name] = _pair(baseline, where)
            else:
                other = _selector_in(baseline, where)
                _scored(other, where)
                paths[_named(name, other)] = _with_gaps(*cls.path_of(other.search_history_))
        chosen = int(selector.support_.sum()), selector.best_score_
        scoring = selector.scoring
        score_name = scoring.replace("_", " ") if isinstance(scoring, str) else "score"
        return cls(paths, tried, chosen, levels, f"{score_name}, cross-validated").plot(ax=ax)

    @staticmethod
    def path_of(history):
        """Numbers of fields and the best score of each.

        Parameters
        ----------
        history : list of dict
            With "subset" and "score", as ``search_history_`` of selectors. Scores that are not a
            number are left out.

        Returns
        -------
        n_fields, scores : ndarray
        """
        best: dict[int, float] = {}
        for record in history:
            n, score = len(record["subset"]), record["score"]
            if not np.isnan(score):
                best[n] = max(score, best.get(n, -np.inf))
        sizes = sorted(best)
        return np.array(sizes, dtype=np.int64), np.array([best[n] for n in sizes], dtype=float)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        self : SelectionPathDisplay
        """
        self._needs_matplotlib("plot")
        from matplotlib.ticker import MaxNLocator

        ax = self._draw_on(ax, 7.0, 4.0)
        handles = []
        if self.tried is not None:
            dots = {"color": DARK, "alpha": 0.3, "markersize": 3, "markeredgewidth": 0}
            handles += ax.plot(*self.tried, "o", label="subsets tried", **dots)
        self.lines_ = {}
        for k, (name, (sizes, scores)) in enumerate(self.paths.items()):
            color, dashes, marker = (DARK, "-", "o") if k == 0 else STYLES[(k - 1) % len(STYLES)]
            style = {"color": color, "linestyle": dashes, "marker": marker, "markersize": 3.8}
            (line,) = ax.plot(sizes, scores, linewidth=1.5, zorder=3 if k == 0 else 2.5, **style)
            line.set_label(shorten(name, 48))
            self.lines_[name] = line
            handles.append(line)
        if self.chosen is not None and np.isfinite(self.chosen[1]):
            n, score = self.chosen
            mark = {
                "markersize": 11,
                "markerfacecolor": "none",
                "markeredgecolor": ACCENT,
                "markeredgewidth": 2,
            }
            handles += ax.plot(
                [n], [score], "o", zorder=4, label=f"kept: {n} field" + "s" * (n != 1), **mark
            )
        levels = {name: score for name, score in (self.levels or {}).items() if np.isfinite(score)}
        for score in levels.values():
            ax.axhline(score, color=GREY, linewidth=0.9, linestyle=":", zorder=1)
        most = max((max(sizes) for sizes, _ in self.paths.values() if len(sizes)), default=1)
        ax.set_xlim(0, most + max(0.3, 0.02 * most))
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        ax.set_xlabel("number of fields")
        ax.set_ylabel(self.score_name)
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        names = self._name_levels(levels)
        legend_above(ax, handles)  # knows what the names have left of the width
        self._spread(names)  # in the height that the legend has left
        return self

    def _name_levels(self, levels):
        """Names to the right of the axes, from the lowest; texts at the height of their lines."""
        place = {"transform": self.ax_.get_yaxis_transform(), "va": "center"}
        style = {"fontsize": 8, "color": GREY, "parse_math": False}
        ordered = sorted(levels.items(), key=lambda level: level[1])
        return [
            self.ax_.text(1.01, score, shorten(name, 18), **place, **style)
            for name, score in ordered
        ]

    def _spread(self, names):
        """Lift texts as close above the one below as the font allows."""
        settle(self.ax_)
        bottom, top = self.ax_.get_ylim()
        row = 10 * (top - bottom) / points(self.ax_)[1]
        free = -np.inf
        for text in names:
            at = max(text.get_position()[1], free)
            text.set_y(at)
            free = at + row


def _selector_in(estimator, where):
    """The fitted selector itself, or the one in a pipeline."""
    check_is_fitted(estimator)
    steps = [estimator]
    while any(isinstance(step, Pipeline | FrozenEstimator) for step in steps):
        steps = [inner for step in steps for inner in _steps_of(step)]
    found = [
        step
        for step in steps
        if hasattr(step, "search_history_") and hasattr(step, "no_fields_score_")
    ]
    if len(found) != 1:
        raise TypeError(
            f"{where} must be a fitted selector that scores subsets, such as FSTD, or a pipeline "
            f"with one, got {estimator!r}."
        )
    return found[0]


def _steps_of(step):
    if isinstance(step, FrozenEstimator):
        return [step.estimator]
    return [inner for _, inner in step.steps] if isinstance(step, Pipeline) else [step]


def _scored(selector, where):
    """Numbers of fields and scores of all subsets that were fitted."""
    scored = [
        (len(r["subset"]), r["score"]) for r in selector.search_history_ if not np.isnan(r["score"])
    ]
    if not scored:
        raise ValueError(f"{where} has no path: {type(selector).__name__} scored no subset.")
    sizes, scores = zip(*scored, strict=True)
    return np.array(sizes), np.array(scores)


def _with_gaps(sizes, scores):
    """The path, broken where a search has skipped many numbers: a line across would look like
    scores.
    """
    wide = np.flatnonzero(np.diff(sizes) > max(2, 0.1 * sizes[-1])) + 1
    return np.insert(sizes, wide, sizes[wide] - 1), np.insert(scores, wide, np.nan)


def _pair(pair, where):
    """A path given as numbers of fields and scores, in rising order."""
    try:
        sizes, scores = (np.asarray(part, dtype=float) for part in pair)
    except (TypeError, ValueError):
        sizes, scores = np.zeros(0), np.zeros(1)
    if sizes.ndim != 1 or sizes.shape != scores.shape or not len(sizes):
        raise ValueError(
            f"{where} must be a selector, a score, or numbers of fields and as many scores, got "
            f"{pair!r}."
        )
    order = np.argsort(sizes, kind="stable")
    return sizes[order], scores[order]


def _named(name, selector):
    return f"{name}, {len(selector.search_history_)} evaluations"
