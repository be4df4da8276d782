"""The estimator of ratings."""

from typing import Literal, Self, overload

from sklearn.base import RegressorMixin

from ..utils._docs import inherits_entries
from ..utils._sklearn import StrOptions, with_callbacks
from ..utils._state import reads_once
from ..utils._typing import ArrayLike, Column, Floats, Table
from ._base import FieldEstimator
from ._targets import RatingTarget

__all__ = ["RatingRegressor"]


@inherits_entries
class RatingRegressor(RegressorMixin, FieldEstimator):
    """Deep rating prediction on tables of categorical, numeric and list-valued columns, by squared
    error.

    The network sees ratings of mean 0 and variance 1; predictions are converted as
    prediction * std + mean, and the loss of ``history_`` is in units of the variance, if ``loss``
    is not one of your own.

    Parameters
    ----------
    {network to patience}
    monitor : "loss" or callable, default="loss"
        What early stopping watches on the held-out rows: their loss, or a scikit-learn scorer, of
        ratings in the units of y; see `CTRClassifier`.
    {lr_schedule to verbose}

    Attributes
    ----------
    y_mean_, y_scale_ : float
        Mean and standard deviation of the training ratings.
    {net_ to feature_names_in_}

    See Also
    --------
    CTRClassifier : The same for clicks.

    Examples
    --------
    >>> from sklearn_autorec import RatingRegressor
    >>> from sklearn_autorec.datasets import make_ctr
    >>> X, y, truth = make_ctr(2000, n_fields=4, task="rating", random_state=0)
    >>> RatingRegressor(network="fm", max_epochs=2, random_state=0).fit(X, y).predict(X).shape
    (2000,)
    """

    _target_kind = RatingTarget
    _parameter_constraints = {
        **FieldEstimator._parameter_constraints,
        "monitor": [StrOptions({"loss"}), callable],
    }

    @with_callbacks
    def fit(
        self,
        X: Table,
        y: ArrayLike,
        sample_weight: Column = None,
        X_val: Table | None = None,
        y_val: Column = None,
        sample_weight_val: Column = None,
        groups: Column = None,
    ) -> Self:
        """Search and train; see `CTRClassifier.fit`. ``y`` holds numbers, (n_rows,)."""
        return self._fit(X, y, sample_weight, X_val, y_val, sample_weight_val, groups)

    def partial_fit(self, X: Table, y: ArrayLike, sample_weight: Column = None) -> Self:
        """Train one epoch on a chunk of rows; see `CTRClassifier.partial_fit`.

        The first chunk also fixes the mean and the scale of the ratings.
        """
        return self._partial_fit(X, y, sample_weight)

    @overload
    def predict(self, X: Table, return_std: Literal[False] = False) -> Floats: ...

    @overload
    def predict(self, X: Table, return_std: Literal[True]) -> tuple[Floats, Floats]: ...

    @reads_once
    def predict(self, X: Table, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Predicted ratings, float64 of shape (n_rows,).

        Parameters
        ----------
        X : table of shape (n_rows, n_columns), or a data set with its columns
        return_std : bool, default=False
            Also say how far the members lie apart; for models of ``members`` > 1.

        Returns
        -------
        ratings : ndarray of shape (n_rows,)
        std : ndarray of shape (n_rows,)
            Standard deviation of the members' ratings (with the number of members as divisor), if
            ``return_std``.

        Raises
        ------
        ValueError
            If ``return_std`` is asked of a model of one member.
        """
        if not return_std:
            return self._logits(X)[:, 0] * self.y_scale_ + self.y_mean_
        ratings = self._member_logits(X)[..., 0] * self.y_scale_ + self.y_mean_
        return ratings.mean(0), ratings.std(0)
