"""Bayesian search: candidates proposed by a model of the scores so far."""

from numbers import Integral
from typing import Unpack

from ..utils._docs import inherits_entries
from ..utils._parameters import stores_own_and_common
from ..utils._sklearn import Interval, StrOptions
from ._optuna_samplers import POINT_SAMPLERS
from ._trials import SearchOptions, Trial, TrialSearchCV


@inherits_entries
class BayesSearchCV(TrialSearchCV):
    """Search in which a model of the scores so far proposes the next candidates.

    The models are Optuna's (extra ``bayes``): the tree-structured Parzen estimator [1]_, or a
    Gaussian process with log expected improvement. The first candidates, two for each parameter and
    one more but at most ten, are random. Whatever ``n_jobs`` is, the same candidates are tried.

    Parameters
    ----------
    estimator : estimator
        Any estimator of scikit-learn's interface.
    param_distributions : dict or list of dict
        Lists or distributions of scipy.stats (anything with ``ppf``) by parameter name. The values
        of a list have no order, and may be anything: numbers, None, tuples, estimators. A
        continuous distribution is searched on the scale on which it is uniform. Of a list of dicts
        a candidate takes one ("tpe" and "random" only).
    n_iter : int, default=50
        Candidates. Fewer are tried if the space has fewer; none is tried twice unless a
        distribution is continuous.
    sampler : {"tpe", "gp", "random"}, default="tpe"
        "tpe" for spaces with many lists and for many candidates; "gp" for a few continuous
        parameters and at most some hundred candidates, each of which takes seconds; "random" needs
        no Optuna.
    batch_size : int, default=1
        Candidates proposed at a time. ``n_jobs`` shares out the splits of one batch, so more
        workers than splits need a larger batch. The larger, the less is known when a candidate is
        proposed.
    max_time : float, default=None
        Seconds after which no fit starts any more.
    scoring, refit, cv, n_jobs, pre_dispatch, verbose, error_score, return_train_score
        As in scikit-learn's `RandomizedSearchCV <sklearn.model_selection.RandomizedSearchCV>`. A
        candidate that fails counts as the worst one. With several metrics the model follows the one
        of ``refit``.
    random_state : int, RandomState or None
        Seed of the sampler.
    checkpoint : path, default=None
        A folder for finished evaluations, from which the same search goes on after a crash.
    {candidate_timeout}

    Attributes
    ----------
    cv_results_ : dict
    best_estimator_, best_params_, best_score_, best_index_, scorer_, n_splits_, refit_time_
    multimetric_
        As in scikit-learn.
    {stopped_}

    References
    ----------
    .. [1] Bergstra, Bardenet, Bengio and Kegl, "Algorithms for hyper-parameter optimization",
       NeurIPS 2011.
       https://papers.nips.cc/paper/2011/hash/86e8f7ab32cfd12577bc2619bc635690-Abstract.html

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn import datasets, linear_model
    >>> from sklearn_autorec.model_selection import BayesSearchCV
    >>> search = BayesSearchCV(
    ...     linear_model.LogisticRegression(max_iter=1000),
    ...     {"C": loguniform(1e-3, 1e3), "class_weight": [None, "balanced"]},
    ...     n_iter=12,
    ...     random_state=0,
    ... ).fit(*datasets.load_iris(return_X_y=True))
    >>> len(search.cv_results_["params"]), bool(search.best_score_ > 0.95)
    (12, True)
    """

    _parameter_constraints: dict[str, list] = {
        **TrialSearchCV._parameter_constraints,
        "param_distributions": [dict, list, tuple],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "sampler": [StrOptions(set(POINT_SAMPLERS))],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    @stores_own_and_common(TrialSearchCV)
    def __init__(
        self,
        estimator,
        param_distributions,
        *,
        n_iter=50,
        sampler="tpe",
        batch_size=1,
        refit=True,
        **common: Unpack[SearchOptions],
    ):
        """Store the parameters."""

    def _check_search(self):
        self._new_sampler(0)

    def _new_sampler(self, random_state):
        return POINT_SAMPLERS[self.sampler](self.param_distributions, random_state)

    def _policy(self, random_state):
        sampler = self._new_sampler(random_state)
        left = min(self.n_iter, sampler.space.size)
        while left > 0:
            batch = sampler.ask(min(self.batch_size, left))
            left -= len(batch)
            outcomes = yield [Trial(params) for params in batch]
            for outcome in outcomes:
                sampler.tell(outcome.trial.params, outcome.score)
