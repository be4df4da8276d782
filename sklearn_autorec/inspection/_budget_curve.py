"""Score against the bytes of models, of methods and of their baselines."""

from typing import Any, Self

import numpy as np

from ..utils._docs import takes_entries
from ._plotting import ACCENT, DARK, GREY, Display, legend_above, shorten
from ._selection_path import STYLES

COLUMNS = ("name", "bytes", "score", "std")


class BudgetCurveDisplay(Display):
    """Scores of models of several sizes against their bytes, a line for each method.

    Usually made by `from_results` or `from_cv_results`.

    Parameters
    ----------
    curves : dict of str to (n_bytes, scores, deviations)
        Of each method, arrays of one length, bytes rising; a deviation that is not a number draws
        no bar.
    baselines : sequence of str, default=()
        Curves that are drawn dashed.
    dense : (n_bytes, score) or None, default=None
        The model of whole tables: a horizontal line, and a mark at its bytes.
    score_name : str, default="score"

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
        Of every curve, by its name.

    Examples
    --------
    >>> from sklearn_autorec.inspection import BudgetCurveDisplay
    >>> rows = [("PEP", 4000, 0.71, 0.01), ("PEP", 1000, 0.70, 0.02), ("dense", 16000, 0.72, 0.01)]
    >>> curves, dense = BudgetCurveDisplay.curves_of(rows, dense="dense")
    >>> curves["PEP"][0].tolist(), dense
    ([1000.0, 4000.0], (16000.0, 0.72))
    """

    def __init__(self, curves, baselines=(), dense=None, score_name="score"):
        self.curves = curves
        self.baselines = baselines
        self.dense = dense
        self.score_name = score_name

    @classmethod
    def from_results(
        cls,
        table: Any,
        *,
        baselines: Any = (),
        dense: str | None = None,
        score_name: str = "score",
        ax: Any = None,
    ) -> Self:
        """Draw results that stand in a table.

        Parameters
        ----------
        table : DataFrame or list of (name, bytes, score, std)
            A row for each model; a DataFrame has columns of these names, of which "std" may be
            missing. A row is the mean over splits, if there were several.
        baselines : sequence of str, default=()
            Names that are drawn dashed.
        dense : str or None, default=None
            Name of the one model of whole tables.
        score_name : str, default="score"
        ax : matplotlib Axes, default=None
            See `plot`.

        Returns
        -------
        BudgetCurveDisplay

        Raises
        ------
        ValueError
            If the table has other columns, bytes that are not above 0, or none of a name.
        """
        cls._needs_matplotlib("from_results")
        curves, whole = cls.curves_of(table, dense)
        for name in baselines:
            if name not in curves:
                raise ValueError(f"baselines names {name!r}; the table has {list(curves)!r:.300}.")
        return cls(curves, tuple(baselines), whole, score_name).plot(ax=ax)

    @classmethod
    @takes_entries(from_results)
    def from_cv_results(
        cls,
        search: Any,
        bytes: str = "nbytes",
        *,
        score: str | None = None,
        baselines: Any = (),
        dense: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw a fitted search over budgets, such as a ``GridSearchCV`` over ``search__budget``.

        Parameters
        ----------
        search : fitted search with ``cv_results_``
            Of several metrics, one of which is `sklearn_autorec.metrics.nbytes_scorer`.
        bytes : str, default="nbytes"
            Name of that metric.
        score : str or None, default=None
            The metric to draw; None is that of ``refit``, or the only other one.
        {baselines, dense, ax}

        Returns
        -------
        BudgetCurveDisplay

        Raises
        ------
        ValueError
            If a metric was not computed.

        Notes
        -----
        Both numbers are means over the splits: the bytes are those of the models that were fitted
        and scored, not what the budget asked for. A line joins candidates that differ in budgets
        alone (parameters whose names end in "budget" or "sparsity"), and its name is what the
        others were. Candidates that failed are left out.
        """
        cls._needs_matplotlib("from_cv_results")
        found = getattr(search, "cv_results_", None)
        if found is None:
            raise ValueError(f"search must be fitted, got {search!r:.200} without cv_results_.")
        named = [n.removeprefix("mean_test_") for n in found if n.startswith("mean_test_")]
        if score is None:
            refit = getattr(search, "refit", None)
            others = [name for name in named if name != bytes]
            score = refit if isinstance(refit, str) and refit != bytes else (others or [None])[0]
        for parameter, name in (("bytes", bytes), ("score", score)):
            if name not in named:
                raise ValueError(
                    f"{parameter}={name!r} is no metric of the search, which has {named}; fit it "
                    f"with scoring={{'nbytes': nbytes_scorer, 'score': ...}} and a refit."
                )
        numbers = (found[f"mean_test_{bytes}"], found[f"mean_test_{score}"])
        rows = [
            (_named(params), *own)
            for params, *own in zip(
                found["params"], *numbers, found[f"std_test_{score}"], strict=True
            )
            if np.isfinite(own[:2]).all()
        ]
        return cls.from_results(
            rows, baselines=baselines, dense=dense, score_name=score.replace("_", " "), ax=ax
        )

    @staticmethod
    def curves_of(table, dense=None):
        """The curves of a table, and the model of whole tables.

        Parameters
        ----------
        table, dense
            As of `from_results`.

        Returns
        -------
        curves : dict of str to (n_bytes, scores, deviations)
        dense : (n_bytes, score) or None
        """
        curves: dict[str, list] = {}
        for name, *numbers in _rows(table):
            if not np.isfinite(numbers[:2]).all() or numbers[0] <= 0:
                raise ValueError(
                    f"table needs bytes above 0 and a score of {name!r}, got {numbers[:2]}."
                )
            curves.setdefault(name, []).append(numbers)
        whole = None
        if dense is not None:
            if len(curves.get(dense, ())) != 1:
                raise ValueError(
                    f"dense={dense!r} must name one row of the table, which has "
                    f"{len(curves.get(dense, ()))} of {list(curves)!r:.300}."
                )
            ((n_bytes, score, _),) = curves.pop(dense)
            whole = n_bytes, score
        by_bytes = {name: np.array(sorted(own), dtype=float).T for name, own in curves.items()}
        return {name: tuple(own) for name, own in by_bytes.items()}, whole

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        self : BudgetCurveDisplay
        """
        self._needs_matplotlib("plot")
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        ax = self._draw_on(ax, 7.0, 4.0)
        styles = ((DARK, "-", "o"), *STYLES)
        self.lines_, handles = {}, []
        for k, (name, (n_bytes, scores, deviations)) in enumerate(self.curves.items()):
            color, _, marker = styles[k % len(styles)]
            dashed = name in self.baselines
            style = {"color": color, "linestyle": "--" if dashed else "-", "marker": marker}
            (line,) = ax.plot(
                n_bytes, scores, linewidth=1.2 if dashed else 1.6, markersize=4, **style
            )
            known = np.isfinite(deviations)
            if known.any():
                ax.errorbar(
                    np.asarray(n_bytes)[known],
                    np.asarray(scores)[known],
                    np.asarray(deviations)[known],
                    fmt="none",
                    ecolor=color,
                    elinewidth=0.8,
                    alpha=0.5,
                )
            line.set_label(shorten(name, 40))
            self.lines_[name] = line
            handles.append(line)
        if self.dense is not None:
            n_bytes, score = self.dense
            level = ax.axhline(score, color=GREY, linewidth=1, linestyle=":", zorder=1)
            level.set_label("whole tables")
            ax.plot([n_bytes], [score], "D", color=ACCENT, markersize=6, zorder=4)
            handles.append(level)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        ax.xaxis.set_major_formatter(FuncFormatter(_with_unit))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("bytes")
        ax.set_ylabel(self.score_name)
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        if handles:
            legend_above(ax, handles)
        return self


def _rows(table):
    """Rows (name, bytes, score, std) of a table."""
    if hasattr(table, "columns"):
        missing = [name for name in COLUMNS[:3] if name not in table.columns]
        if missing:
            raise ValueError(f"table has no columns {missing}, but {list(table.columns)!r:.300}.")
        columns = [table[name] for name in COLUMNS if name in table.columns]
        table = list(zip(*columns, strict=True))
    rows = [(*row, np.nan)[:4] if len(row) < 4 else tuple(row) for row in table]
    if not rows or any(len(row) != 4 for row in rows):
        raise ValueError(f"table must hold rows of {COLUMNS}, got {table!r:.200}.")
    return [(str(name), *(float(number) for number in numbers)) for name, *numbers in rows]


def _named(params):
    """A candidate without its budgets, in words."""
    others = {
        name: value for name, value in params.items() if not name.endswith(("budget", "sparsity"))
    }
    if [*others] == ["search"]:
        return type(others["search"]).__name__ if others["search"] is not None else "no search"
    told = ", ".join(f"{name.rpartition('__')[2]}={value}" for name, value in others.items())
    return told or "search"


def _with_unit(n_bytes, _):
    """A number of bytes as on the axis.

    >>> _with_unit(20_000, None), _with_unit(5e6, None), _with_unit(200, None)
    ('20 kB', '5 MB', '200 B')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:g} {name}"
    return f"{n_bytes:g} B"
