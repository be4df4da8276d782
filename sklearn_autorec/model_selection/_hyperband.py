"""Hyperband: successive halving in brackets, from many candidates stopped early to a few that
nobody stops.
"""

import numpy as np

from ._halving import ResourceSearchCV, largest_power, rungs_of


class HyperbandSearchCV(ResourceSearchCV):
    """Successive halving in brackets, from many candidates stopped early to a few that all get the
    whole resource.

    With little of a resource candidates that learn slowly look bad. Hyperband does not need to know
    how little is too little: bracket s gives its ceil((s_max + 1) eta**s / (s + 1)) candidates
    max_resources / eta**s each and sends the best floor(n / eta) of a rung on to eta times as much;
    bracket 0 stops nobody. All brackets cost about the same.

    Parameters
    ----------
    estimator : estimator
        With ``fit``, and a ``score`` method unless ``scoring`` is given. Pipelines too.
    param_distributions : dict or list of dict
        Lists or distributions (with ``rvs``) by parameter name, as in scikit-learn's
        ``RandomizedSearchCV``.
    brackets : list of int or None, default=None
        Which brackets to run, in this order, by the number s of their halvings; None runs all from
        s_max, the largest s that leaves ``min_resources`` for the first rung, down to 0. A number
        may be repeated.
    resource : str, default="n_samples"
        What is given out: a parameter of the estimator that counts what training takes
        ("max_epochs", "n_estimators", "max_iter", "ctr__max_epochs" in a Pipeline), or "n_samples",
        rows of the training split, stratified by class. Test rows are all used in every rung, so
        that scores can be compared.
    max_resources : int or "auto", default="auto"
        How much of it a winner gets; "auto", for "n_samples" only, is the smallest training split.
    min_resources : int or "smallest", default="smallest"
        The least that the first rung may give. "smallest" is 1; for "n_samples", two rows for every
        split and class. Where learning needs to have seen every value once (tables of ids), begin
        with one epoch.
    eta : int, default=3
        One in ``eta`` goes on.
    warm : bool, default=False
        Whether the candidates of a rung go on with the models that they have, rather than train
        again from the start. The estimator must have ``partial_fit``, or ``warm_start`` (see the
        user guide for what is then counted). In a Pipeline the last step goes on; the steps before
        it are fitted once for each split and each set of their parameters. The final fit on all
        rows starts afresh.
    sampler : {"random"} or callable, default="random"
        Where candidates come from. A function ``sampler(space, random_state)`` returns an object
        with ``ask(n)`` (list of dict) and ``tell(params, score, resource)``, which hears of every
        rung.
    scoring : str, callable, list, dict or None, default=None
        As in scikit-learn's searches. Of several scores the one named by ``refit`` decides who goes
        on.
    n_jobs : int or None, default=None
        Evaluations side by side. The results are the same for every number, and for every backend
        of joblib.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate on all rows.
    cv : int, splitter, iterable or None, default=None
        As in scikit-learn's searches. It is asked once: all candidates meet the same splits.
    max_time : float or None, default=None
        Seconds after which no further evaluation starts. What has finished counts.
    checkpoint : path-like or None, default=None
        A folder in which finished evaluations are kept. A search that was killed or stopped, run
        again with the same parameters and data, reads them and ends as if nothing had happened. The
        files are pickles: load none that you do not trust.
    candidate_timeout : float or None, default=None
        Seconds that one evaluation (a fit on one split and its scores) may take. If given, each
        runs in a process of its own, also with ``n_jobs=1``: one that takes longer, or kills its
        process, scores ``error_score`` and is named in a warning. ``float("inf")`` guards against
        crashes alone.
    random_state : int, RandomState or None, default=None
        Of the candidates, and of the rows for "n_samples". An int gives the same ``cv_results_``
        each time, but for times.
    error_score : "raise" or float, default=nan
        Score of a fit that fails. A candidate with NaN among its scores does not go on.
    return_train_score : bool, default=False
        Whether to score the training rows too.
    verbose : int, default=0
        Above 1, scikit-learn prints a line for each evaluation of a search that is not warm. For
        progress bars use ``set_callbacks``.
    pre_dispatch : int or str, default="2*n_jobs"
        How many evaluations joblib hands out ahead.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        As in scikit-learn's searches: a row for every candidate in every rung. More columns:
        "bracket", "iter" (the rung), "candidate" (a number that stays with it), "n_resources", and
        "n_resources_spent", which is less than "n_resources" where a model went on.
    best_index_, best_params_, best_score_ : int, dict, float
        The best of the rows with ``max_resources`` (with most, should the search have been stopped
        before).
    best_estimator_ : estimator
        Fitted with these on all rows.
    brackets_ : list of dict
        As planned: "bracket", and by rung "n_candidates" and "n_resources".
    total_resources_ : int
        Spent on each split.
    max_resources_, min_resources_ : int
    n_splits_ : int
    stopped_ : {"finished", "max_time", "interrupted"}
        Why the search ended.
    refit_time_ : float
    scorer_, multimetric_, classes_, n_features_in_, feature_names_in_
        As in scikit-learn's searches.

    See Also
    --------
    SuccessiveHalvingSearchCV : A single bracket.

    References
    ----------
    L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh, A. Talwalkar, "Hyperband: a novel bandit-based
    approach to hyperparameter optimization", JMLR 18 (2018), Algorithm 1. We depart from it in one
    thing: the winner has the best score among those with the whole resource, not the best of all
    rungs, which are not comparable in general.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import SGDClassifier
    >>> from sklearn_autorec.model_selection import HyperbandSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = HyperbandSearchCV(
    ...     SGDClassifier(tol=None, random_state=0),
    ...     {"alpha": loguniform(1e-5, 1)},
    ...     resource="max_iter",
    ...     max_resources=9,
    ...     warm=True,
    ...     random_state=0,
    ... )
    >>> cost = search.metadata()
    >>> cost["n_candidates"], cost["n_fits"], cost["n_resources"], cost["n_resources_spent"]
    (17, 110, 78, 69)
    >>> search.fit(X, y).best_params_["max_iter"]
    9
    """

    _parameter_constraints = {
        **ResourceSearchCV._parameter_constraints,
        "brackets": ["array-like", None],
    }

    def __init__(
        self,
        estimator,
        param_distributions,
        *,
        resource="n_samples",
        max_resources="auto",
        min_resources="smallest",
        eta=3,
        brackets=None,
        warm=False,
        sampler="random",
        scoring=None,
        n_jobs=None,
        refit=True,
        cv=None,
        max_time=None,
        checkpoint=None,
        candidate_timeout=None,
        random_state=None,
        error_score=np.nan,
        return_train_score=False,
        verbose=0,
        pre_dispatch="2*n_jobs",
    ):
        super().__init__(
            estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_distributions = param_distributions
        self.resource = resource
        self.max_resources = max_resources
        self.min_resources = min_resources
        self.eta = eta
        self.brackets = brackets
        self.warm = warm
        self.sampler = sampler
        self.max_time = max_time
        self.checkpoint = checkpoint
        self.candidate_timeout = candidate_timeout
        self.random_state = random_state

    def _brackets(self, max_resources, min_resources):
        s_max = largest_power(self.eta, max_resources // min_resources)
        chosen = list(range(s_max, -1, -1) if self.brackets is None else self.brackets)
        if not chosen or any(s not in range(s_max + 1) for s in chosen):
            raise ValueError(f"brackets={self.brackets!r}: there are those from 0 to {s_max}.")
        sizes = {s: -(-(s_max + 1) * self.eta**s // (s + 1)) for s in chosen}
        return [(s, rungs_of(sizes[s], s, max_resources, self.eta)) for s in chosen]
