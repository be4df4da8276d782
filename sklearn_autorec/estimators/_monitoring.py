"""What early stopping watches, where that is a scorer of the user's."""

import inspect

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

__all__ = ["ScorerMonitor", "check_monitor"]


def check_monitor(monitor):
    """Refuse functions that are no scorers: nothing would tell in which direction they are better.

    Raises
    ------
    ValueError
    """
    if isinstance(monitor, str):
        return
    try:
        parameters = inspect.signature(monitor).parameters.values()
    except (TypeError, ValueError):  # built in, without a signature
        return
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    several = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    if not several and sum(p.kind in kinds for p in parameters) < 3:
        raise ValueError(
            f"monitor={monitor!r:.200} must be a scorer, called with (estimator, X, y), of which "
            f"more is better. Make one of a function of (y, predictions) by sklearn.metrics."
            f"make_scorer(function, greater_is_better=..., response_method='predict_proba')."
        )


class _PredictedClasses(ClassifierMixin, BaseEstimator):
    """A fitted classifier of the rows that are held out, and of no others."""

    def __init__(self, classes, logits):
        self.classes, self.logits = classes, logits
        self.classes_ = classes

    def decision_function(self, X):
        return self.logits[:, 0] if len(self.classes) == 2 else self.logits

    def predict_proba(self, X):
        if len(self.classes) > 2:
            return softmax(self.logits, axis=1)
        positive = expit(self.logits[:, 0])
        return np.stack([1 - positive, positive], 1)

    def predict(self, X):
        if len(self.classes) > 2:
            return self.classes[self.logits.argmax(1)]
        return self.classes[(self.logits[:, 0] > 0).astype(int)]


class _PredictedRatings(RegressorMixin, BaseEstimator):
    """The same of ratings."""

    def __init__(self, ratings):
        self.ratings = ratings
        self.is_fitted_ = True

    def predict(self, X):
        return self.ratings


class ScorerMonitor:
    """A scikit-learn scorer as what `TrainingPlan` monitors.

    Parameters
    ----------
    scorer : callable (estimator, X, y, sample_weight=None) -> float
        More is better. X is None: the rows are known by what is predicted for them alone.
    target : ClassTarget or RatingTarget
    """

    def __init__(self, scorer, target):
        self.scorer, self.target, self.scored = scorer, target, False

    def __call__(self, y, logits, weight):
        target, logits = self.target, np.asarray(logits, np.float64)
        if target.is_class:
            estimator = _PredictedClasses(target.classes, logits)
            y = target.classes[np.asarray(y).astype(np.int64)]
        else:
            estimator = _PredictedRatings(logits[:, 0] * target.scale + target.mean)
            y = np.asarray(y, np.float64) * target.scale + target.mean
        told = f"monitor={self.scorer!r:.200}"
        try:
            # Who takes no weights can be asked where rows have none.
            weighted = {} if weight is None else {"sample_weight": weight}
            score = self.scorer(estimator, None, y, **weighted)
            value = float(score)
        except Exception as error:  # whatever a user's function raises
            raise ValueError(
                f"{told} failed on the {len(y)} rows that are held out, of which it is given y, "
                f"what the network predicts{' and sample_weight' if weighted else ''}, but no "
                f"columns (X is None): {type(error).__name__}: {error}"
            ) from error
        if not self.scored and not np.isfinite(value):
            raise ValueError(
                f"{told} must return a finite number, got {value} for the {len(y)} rows that are "
                f"held out."
            )
        self.scored = True
        return value
