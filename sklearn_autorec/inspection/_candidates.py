"""Candidates of a hyperparameter search: what they scored, and what it took."""

from typing import Any, Self

import numpy as np

from ._plotting import ACCENT, GREY, Display, legend_above

# From few candidates to many: light enough to lie under the winner, apart in grey and to the
# colour-blind.
FROM, TO = 0.08, 0.85  # part of matplotlib's viridis


class CandidateHistoryDisplay(Display):
    """Score against resource for all candidates, and regret against what was spent.

    Usually made by `from_estimator`. Regret is how far the best score seen so far lies below the
    best one known.

    Parameters
    ----------
    score : array-like of shape (n_rows,)
        Mean score of each evaluation, in the order in which they ran; NaN where it failed.
    resource : array-like of shape (n_rows,), default=None
        What the candidate had had by then; None for searches without a resource.
    spent : array-like of shape (n_rows,), default=None
        What the evaluation took; None counts evaluations.
    candidate : array-like of shape (n_rows,), default=None
        Number of the candidate: its evaluations are joined by a line. None takes every row for
        another one.
    group : array-like of shape (n_rows,), default=None
        What is told apart by colour, such as the bracket.
    best : int, default=None
        The row that won.
    names : dict, default=None
        Words for "score", "resource" and "group".
    optimum : float, default=None
        The best score there is; None takes the best one found.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The scores.
    axes_ : dict of str to matplotlib Axes
        "score", and "regret" where it was drawn.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn_autorec.inspection import CandidateHistoryDisplay
    >>> display = CandidateHistoryDisplay(
    ...     score=[0.6, 0.5, 0.7], resource=[1, 1, 3], spent=[1, 1, 2], candidate=[0, 1, 0]
    ... )
    >>> spent, regret = display.regret()
    >>> spent.tolist(), regret.round(2).tolist()
    ([1.0, 2.0, 4.0], [0.1, 0.1, 0.0])

    With matplotlib, ``display.plot()`` draws it.
    """

    def __init__(
        self,
        score,
        resource=None,
        spent=None,
        candidate=None,
        group=None,
        best=None,
        names=None,
        optimum=None,
    ):
        self.score = score
        self.resource = resource
        self.spent = spent
        self.candidate = candidate
        self.group = group
        self.best = best
        self.names = names
        self.optimum = optimum

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        metric: str | None = None,
        group: str | None = None,
        optimum: float | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw a fitted search.

        Parameters
        ----------
        estimator : fitted search
            Of `sklearn_autorec.model_selection` or of scikit-learn; what counts is ``cv_results_``.
        metric : str, default=None
            Which of several scores; None takes the one of ``refit``.
        group : str, default=None
            Column of ``cv_results_`` that decides the colour; None takes "bracket" where there is
            one.
        optimum : float, default=None
            See the class.
        ax : matplotlib Axes, default=None
            See `plot`.

        Returns
        -------
        CandidateHistoryDisplay
        """
        estimator = cls._fitted(estimator)
        results = estimator.cv_results_
        if metric is None:
            metric = estimator.refit if getattr(estimator, "multimetric_", False) else "score"
        known = [
            name.removeprefix("mean_test_") for name in results if name.startswith("mean_test_")
        ]
        if metric not in known:
            raise ValueError(f"metric={metric!r} is none of the scores {known}.")
        group = "bracket" if group is None and "bracket" in results else group
        if group is not None and group not in results:
            raise ValueError(f"group={group!r} is no column of cv_results_.")
        resource = getattr(estimator, "resource", None)
        word = (
            metric
            if metric != "score"
            else estimator.scoring
            if isinstance(estimator.scoring, str)
            else "score"
        )
        return cls(
            score=results[f"mean_test_{metric}"],
            resource=results.get("n_resources"),
            spent=results.get("n_resources_spent", results.get("n_resources")),
            candidate=results.get("candidate"),
            group=None if group is None else results[group],
            best=getattr(estimator, "best_index_", None),
            names={"score": word, "group": group, **({"resource": resource} if resource else {})},
            optimum=optimum,
        ).plot(ax=ax)

    def lines(self):
        """What is drawn: dict of (group, candidate) to (resources, scores); without a resource
        evaluations are counted.
        """
        score, resource, candidate, group = self._columns()
        rows = {}
        for row, key in enumerate(zip(group, candidate, strict=True)):
            rows.setdefault(key, []).append(row)
        return {key: (resource[one], score[one]) for key, one in rows.items()}

    def _columns(self):
        """Score, resource, candidate and group by row, defaults filled in."""
        n = len(self.score)
        return (
            np.asarray(self.score, dtype=float),
            np.arange(1, n + 1) if self.resource is None else np.asarray(self.resource),
            list(range(n)) if self.candidate is None else np.asarray(self.candidate).tolist(),
            [None] * n if self.group is None else np.asarray(self.group).tolist(),
        )

    def regret(self):
        """(spent so far, regret), arrays of shape (n_rows,), from the first score that is a
        number.
        """
        score = np.asarray(self.score, dtype=float)
        spent = np.ones(len(score)) if self.spent is None else np.asarray(self.spent, dtype=float)
        score = np.where(np.isfinite(score), score, -np.inf)
        known = np.maximum.accumulate(score)
        optimum = score.max() if self.optimum is None else self.optimum
        sound = np.isfinite(known)
        return spent.cumsum()[sound], optimum - known[sound]

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw the scores, and nothing else; if None, a new figure with the regret beside
            them.

        Returns
        -------
        self : CandidateHistoryDisplay
        """
        self._needs_matplotlib("plot")
        if not np.isfinite(np.asarray(self.score, dtype=float)).any():
            raise ValueError("There is nothing to draw: no score is a finite number.")
        if ax is None:
            import matplotlib.pyplot as plt

            self.figure_, (self.ax_, below) = plt.subplots(
                2, figsize=(7.0, 6.0), height_ratios=[1.7, 1], layout="constrained"
            )
            self.axes_ = {"score": self.ax_, "regret": below}
            self._draw_regret(below)
        else:
            self.ax_, self.figure_, self.axes_ = ax, ax.figure, {"score": ax}
        self._draw_scores(self.ax_)
        for panel in self.axes_.values():
            panel.grid(axis="y", color="#e6e6e6", linewidth=0.6)
            panel.set_axisbelow(True)
            panel.spines[["top", "right"]].set_visible(False)
        return self

    def _word(self, name, default):
        return ((self.names or {}).get(name) or default).replace("_", " ")

    def _draw_scores(self, ax):
        from matplotlib import colormaps
        from matplotlib.ticker import NullLocator

        lines = self.lines()
        _, resource, candidate, group = self._columns()
        winner = None if self.best is None else (group[self.best], candidate[self.best])
        ticks = np.unique(resource)
        log = self.resource is not None and ticks[-1] >= 8 * max(ticks[0], 1)
        groups = sorted(set(group), key=str)
        shades = colormaps["viridis"](np.linspace(FROM, TO, len(groups)))
        # Groups that meet at a resource stand beside each other.
        middle = {
            tick: np.mean([groups.index(g) for g in set(np.array(group, object)[resource == tick])])
            for tick in ticks
        }
        at = np.log(ticks) if log else ticks
        room = (
            0.35 * np.diff(at).min() / max(len(groups), 4)
            if len(ticks) > 1 and self.resource is not None
            else 0.0
        )
        faint = float(np.clip(25 / len(lines), 0.25, 0.8))
        for key, (x, y) in lines.items():
            number = groups.index(key[0])
            shift = room * (number - np.array([middle[tick] for tick in x]))
            x = np.exp(np.log(x) + shift) if log else x + shift
            if key == winner:
                ax.plot(x, y, "o-", color=ACCENT, linewidth=1.8, markersize=4.5, zorder=4)
            else:
                ax.plot(x, y, color=shades[number], linewidth=0.9, alpha=faint, zorder=1)
                ax.plot(
                    x,
                    y,
                    "o",
                    color=shades[number],
                    markersize=3.5,
                    alpha=max(faint, 0.5),
                    linewidth=0,
                )
        if log:
            ax.set_xscale("log")
            ax.xaxis.set_minor_locator(NullLocator())
        if self.resource is not None and len(ticks) <= 10:
            ax.set_xticks(ticks, [str(tick) for tick in ticks.tolist()])
        ax.set_xlabel(
            "evaluation" if self.resource is None else self._word("resource", "resource"),
            parse_math=False,
        )
        ax.set_ylabel(self._word("score", "score"), parse_math=False)
        self._name(ax, groups, shades, winner)

    def _name(self, ax, groups, shades, winner):
        from matplotlib.lines import Line2D

        style = {"marker": "o", "markersize": 4, "linewidth": 0}
        named = (
            list(zip(groups, shades, strict=True)) if groups != [None] and len(groups) <= 8 else []
        )
        handles = [
            Line2D([], [], color=c, label=f"{self._word('group', 'group')} {g}", **style)
            for g, c in named
        ]
        if winner is not None:
            handles.append(Line2D([], [], color=ACCENT, label="winner", **style))
        if handles:
            legend_above(ax, handles)

    def _draw_regret(self, ax):
        spent, regret = self.regret()
        ax.step(spent, regret, where="post", color=GREY, linewidth=1.4)
        positive = regret[regret > 0]
        if len(positive) and positive.max() > 30 * positive.min():
            ax.set_yscale("symlog", linthresh=float(positive.min()))
            ax.set_ylim(0)
        else:
            ax.set_ylim(bottom=min(0, float(regret.min())))
        ax.set_ylabel("regret")
        words = (
            "evaluations" if self.spent is None else f"{self._word('resource', 'resource')} spent"
        )
        ax.set_xlabel(f"{words}, all candidates", parse_math=False)
