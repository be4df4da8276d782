"""The estimator of ratings."""

from sklearn.base import RegressorMixin

from ..utils._docs import inherits_entries
from ..utils._sklearn import StrOptions, with_callbacks
from ..utils._state import reads_once
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
        X,
        y,
        sample_weight=None,
        X_val=None,
        y_val=None,
        sample_weight_val=None,
        groups=None,
    ):
        """Search and train; see `CTRClassifier.fit`. ``y`` holds numbers, (n_rows,)."""
        return self._fit(X, y, sample_weight, X_val, y_val, sample_weight_val, groups)

    def partial_fit(self, X, y, sample_weight=None):
        """Train one epoch on a chunk of rows; see `CTRClassifier.partial_fit`.

        The first chunk also fixes the mean and the scale of the ratings.
        """
        return self._partial_fit(X, y, sample_weight)

    @reads_once
    def predict(self, X, return_std=False):
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
