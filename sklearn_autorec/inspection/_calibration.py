"""Predicted against true click rate of the values of one column."""

from typing import Any, Self

import numpy as np
import pandas as pd

from ..metrics import calibration_by_group
from ..utils._docs import takes_entries
from ..utils._frames import column_of, table_names
from ..utils._typing import ArrayLike, Column
from ._plotting import ACCENT, DARK, GREY, Display, label_rows, legend_above, shorten

SURE = 2.0  # standard errors


class CalibrationByFieldDisplay(Display):
    """Click rate that was predicted for the values of a column, beside the true one.

    Usually made by `from_estimator` or `from_predictions`. A model can be right on the whole and
    wrong for every value of a column.

    Parameters
    ----------
    table : DataFrame
        As `calibration_by_group` gives it.
    field_name : str
        Name of the column.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_autorec.inspection import CalibrationByFieldDisplay
    >>> from sklearn_autorec.metrics import calibration_by_group
    >>> table = calibration_by_group([0, 1, 1], [0.5, 0.5, 0.8], groups=["a", "a", "b"])
    >>> display = CalibrationByFieldDisplay(table, field_name="country")
    >>> display.off()
    []

    With matplotlib, ``display.plot()`` draws it.
    """

    def __init__(self, table, field_name):
        self.table = table
        self.field_name = field_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        field: Any,
        *,
        sample_weight: Column = None,
        max_values: int = 20,
        ax: Any = None,
    ) -> Self:
        """Draw the calibration of a fitted classifier.

        Parameters
        ----------
        estimator : CTRClassifier, another classifier of two classes, or a Pipeline
        X : DataFrame or array of shape (n_rows, n_columns)
            Rows that the estimator was not fitted on.
        y : array-like of shape (n_rows,)
        field : str or int
            Name of a column of ``X``, or its position where ``X`` is an array.
        sample_weight, max_values, ax
            See `from_predictions` and `plot`.

        Returns
        -------
        CalibrationByFieldDisplay
        """
        classes = cls._fitted(estimator).classes_
        if len(classes) != 2:
            raise ValueError(f"Calibration needs two classes, the estimator has {len(classes)}.")
        names = table_names(X)
        if names is not None:
            if field not in names:
                raise ValueError(f"field={field!r} is no column of X, which has {names}.")
            values = column_of(X, field)
        else:
            values = np.asarray(X)[:, field]
        return cls.from_predictions(
            np.asarray(y) == classes[1],
            estimator.predict_proba(X)[:, 1],
            values,
            field_name=str(field),
            sample_weight=sample_weight,
            max_values=max_values,
            ax=ax,
        )

    @classmethod
    @takes_entries(calibration_by_group)
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_prob: ArrayLike,
        values: Any,
        *,
        field_name: str = "value",
        sample_weight: Column = None,
        pos_label: Any = None,
        max_values: int = 20,
        ax: Any = None,
    ) -> Self:
        """Draw the calibration of predictions.

        Parameters
        ----------
        {y_true, y_prob}
        values : array-like of shape (n_rows,)
            The column; missing values are one value of their own.
        field_name : str, default="value"
        {sample_weight, pos_label}
        max_values, ax
            See `plot`.

        Returns
        -------
        CalibrationByFieldDisplay
        """
        cls._needs_matplotlib("from_predictions")
        values = pd.Series(list(values), dtype=object)
        table = calibration_by_group(
            y_true,
            y_prob,
            groups=values.mask(values.isna(), "(missing)"),
            sample_weight=sample_weight,
            pos_label=pos_label,
        )
        return cls(table, field_name).plot(max_values=max_values, ax=ax)

    def off(self):
        """Values whose predicted rate lies more than two standard errors off the true one.

        Returns
        -------
        list
            Those of most rows first. Of values that are predicted rightly 5 of 100 are among them
            by chance.
        """
        return self.table.index[self._is_off(self.table)].tolist()

    @staticmethod
    def _is_off(table):
        return (table["error"].abs() > SURE * table["standard_error"]).to_numpy()

    def plot(self, ax: Any = None, *, max_values: int = 20) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure, large enough for the values, if None.
        max_values : int, default=20
            The values of most rows are drawn, at most so many.

        Returns
        -------
        self : CalibrationByFieldDisplay
        """
        self._needs_matplotlib("plot")
        table = self.table.iloc[:max_values]
        rows = np.arange(len(table))
        ax = self._draw_on(ax, 7.0, 0.24 * len(table) + 1.3)
        predicted, reach = table["predicted"], SURE * table["standard_error"]
        handles = [
            ax.hlines(
                rows,
                np.maximum(predicted - reach, 0),
                np.minimum(predicted + reach, 1),
                color=DARK,
                linewidth=5,
                alpha=0.25,
                label="predicted, and where clicks would lie",
            ),
            ax.plot(table["rate"], rows, "o", color=GREY, markersize=4.5, label="clicks")[0],
        ]
        ax.plot(predicted, rows, "|", color=DARK, markersize=9, markeredgewidth=1.8)
        is_off = self._is_off(table)
        if is_off.any():
            marks = ax.plot(
                table["rate"][is_off], rows[is_off], "o", color=ACCENT, markersize=5.5, zorder=4
            )[0]
            marks.set_label("clicks, outside")
            handles.append(marks)
        ax.set_xlim(left=0)
        ax.set_xlabel("click rate")
        ax.set_ylabel(shorten(self.field_name), parse_math=False)
        ax.spines[["top", "right"]].set_visible(False)
        font = label_rows(ax, [shorten(value) for value in table.index])
        across = ax.get_yaxis_transform()
        for row, n_rows in zip(rows, table["n_rows"], strict=True):
            label = f"{n_rows:,} row" + "s" * (n_rows != 1)
            ax.text(1.01, row, label, transform=across, va="center", fontsize=font, color=GREY)
        legend_above(ax, handles)
        return self
