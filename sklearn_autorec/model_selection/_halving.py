"""Successive halving: many candidates with little of a resource, few with all of it."""

import warnings
from numbers import Integral
from typing import Unpack

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection import check_cv

from ..utils._docs import inherits_entries
from ..utils._parameters import stores_own_and_common
from ..utils._sklearn import Interval, StrOptions, validate_parameters
from ._samplers import SAMPLERS, make_sampler
from ._trials import SearchOptions, Trial, TrialSearchCV, check_warm


def largest_power(eta, bound):
    """The largest k with eta**k <= bound; logarithms would round 243 to less than 3**5."""
    k = 0
    while eta ** (k + 1) <= bound:
        k += 1
    return k


def rungs_of(n, s, max_resources, eta):
    """A bracket of n candidates and s + 1 rungs, list of (candidates, resource)."""
    return [(n // eta**i, max_resources // eta ** (s - i)) for i in range(s + 1)]


def table_of(brackets):
    """Brackets as users see them: list of dict with "bracket", "n_candidates" and "n_resources" by
    rung.
    """
    return [
        {"bracket": s, "n_candidates": [n for n, _ in b], "n_resources": [r for _, r in b]}
        for s, b in brackets
    ]


@inherits_entries
class ResourceSearchCV(TrialSearchCV):
    """What successive halving and Hyperband share: brackets, their budget and their policy.

    Parameters
    ----------
    estimator : estimator
        With ``fit``, and a ``score`` method unless ``scoring`` is given. Pipelines too.
    param_distributions : dict or list of dict
        Lists or distributions (with ``rvs``) by parameter name, as in scikit-learn's
        ``RandomizedSearchCV``.
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
    {candidate_timeout}
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
    """

    _parameter_constraints: dict[str, list] = {
        **TrialSearchCV._parameter_constraints,
        "param_distributions": [dict, list],
        "resource": [str],
        "max_resources": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "min_resources": [Interval(Integral, 1, None, closed="left"), StrOptions({"smallest"})],
        "eta": [Interval(Integral, 2, None, closed="left")],
        "warm": ["boolean"],
        "sampler": [StrOptions(set(SAMPLERS)), callable],
    }

    def _brackets(self, max_resources, min_resources):
        """List of (number, rungs) as they will run."""
        raise NotImplementedError

    def metadata(self, X=None, y=None, groups=None):
        """What ``fit`` will cost, without running it.

        Parameters
        ----------
        X, y, groups : array-like, default=None
            Needed where the number of rows decides (``resource="n_samples"``), and for a ``cv``
            that needs them.

        Returns
        -------
        dict
            "brackets" (dicts with "bracket", "n_candidates" and "n_resources" by rung),
            "n_candidates", "n_splits", "n_fits" (without the final one on all rows), and for each
            split "n_resources" (what all fits would take from the start) and "n_resources_spent"
            (what they take). With candidates that fail, or with fewer than asked for, it will be
            less.
        """
        validate_parameters(self)
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = None
        if self.resource == "n_samples":
            if X is None:
                raise ValueError('metadata needs X (and y, groups) with resource="n_samples".')
            splits = list(cv.split(X, y, groups))
        n_splits = len(splits) if splits else cv.get_n_splits(X, y, groups)
        brackets = self._brackets(*self._bounds(y, n_splits, splits))
        rungs = [rung for _, bracket in brackets for rung in bracket]
        cold = sum(n * r for n, r in rungs)
        again = sum(
            n * r
            for _, bracket in brackets
            for (_, r), (n, _) in zip(bracket, bracket[1:], strict=False)
        )
        return {
            "brackets": table_of(brackets),
            "n_candidates": sum(bracket[0][0] for _, bracket in brackets),
            "n_splits": n_splits,
            "n_fits": n_splits * sum(n for n, _ in rungs),
            "n_resources": cold,
            "n_resources_spent": cold - again if self.warm else cold,
        }

    def _bounds(self, y, n_splits, splits):
        """(max_resources, min_resources) as numbers."""
        rows = min(len(train) for train, _ in splits) if self.resource == "n_samples" else None
        most, least = self.max_resources, self.min_resources
        if most == "auto":
            if rows is None:
                raise ValueError(
                    f'max_resources="auto" needs resource="n_samples"; how much of '
                    f"{self.resource!r} is all?"
                )
            most = rows
        if rows is not None and most > rows:
            raise ValueError(
                f"max_resources={most}, but the smallest training split has {rows} rows."
            )
        if least == "smallest":
            classes = len(np.unique(y)) if is_classifier(self.estimator) and y is not None else 1
            # As scikit-learn's halving.
            least = 1 if rows is None else min(2 * n_splits * classes, most)
        if least > most:
            raise ValueError(f"min_resources={least} is more than max_resources={most}.")
        return most, least

    def _prepare(self, X, y, splits):
        known = self.estimator.get_params()
        if self.resource != "n_samples" and self.resource not in known:
            raise ValueError(
                f"resource={self.resource!r} is no parameter of {type(self.estimator).__name__}; "
                f"give one that counts "
                'what training takes (max_epochs, n_estimators, max_iter), or "n_samples".'
            )
        space = self.param_distributions
        if any(self.resource in part for part in ([space] if isinstance(space, dict) else space)):
            raise ValueError(
                f"resource={self.resource!r} is given to the candidates; it cannot be searched as "
                f"well."
            )
        if self.warm:
            check_warm(self)
        self.max_resources_, self.min_resources_ = self._bounds(y, len(splits), splits)
        self.brackets_ = table_of(self._brackets(self.max_resources_, self.min_resources_))

    def _policy(self, random_state):
        sampler = make_sampler(self.sampler, self.param_distributions, random_state)
        n_asked = 0
        for number, rungs in self._brackets(self.max_resources_, self.min_resources_):
            found = sampler.ask(rungs[0][0])
            if len(found) < rungs[0][0]:
                if not n_asked:
                    warnings.warn(
                        f"The space has {len(found)} candidates, the first bracket wants "
                        f"{rungs[0][0]}: brackets begin "
                        "with what there is, at a later rung.",
                        stacklevel=2,
                    )
                # A rung that would send everyone on decides nothing.
                while len(rungs) > 1 and rungs[1][0] >= len(found):
                    rungs = rungs[1:]
            going = [(params, n_asked + i, None) for i, params in enumerate(found)]
            n_asked += len(found)
            for i, (_, resource) in enumerate(rungs):
                outcomes = yield [
                    Trial(
                        params,
                        resource,
                        parent=row if self.warm else None,
                        columns={"bracket": number, "iter": i, "candidate": candidate},
                    )
                    for params, candidate, row in going
                ]
                for outcome in outcomes:
                    sampler.tell(outcome.trial.params, outcome.score, resource)
                # Python's sort keeps the order of equals, so that ties go to the candidate drawn
                # first.
                ranked = sorted((o for o in outcomes if o.score > -np.inf), key=lambda o: -o.score)
                kept = rungs[i + 1][0] if i + 1 < len(rungs) else 0
                going = [
                    (o.trial.params, o.trial.columns["candidate"], o.row) for o in ranked[:kept]
                ]
                if not going:
                    break

    @staticmethod
    def _select_best_index(refit, refit_metric, results):
        """The best of those with all of the resource; of those with most, should the search have
        been stopped.
        """
        if callable(refit):
            return TrialSearchCV._select_best_index(refit, refit_metric, results)
        rows = np.flatnonzero(results["n_resources"] == results["n_resources"].max())
        scores = results[f"mean_test_{refit_metric}"][rows]
        return int(rows[0 if np.isnan(scores).all() else np.nanargmax(scores)])

    def _publish(self, run):
        self.total_resources_ = int(self.cv_results_["n_resources_spent"].sum())


@inherits_entries
class SuccessiveHalvingSearchCV(ResourceSearchCV):
    """Many candidates start with little of a resource; the best of each rung go on with ``eta``
    times as much.

    One bracket of `HyperbandSearchCV`, for those who know how little of the resource tells
    candidates apart. Of a rung with n candidates the best floor(n / eta) go on (scikit-learn's
    ``HalvingRandomSearchCV`` keeps one more where n is no multiple of eta), and the last rung has
    ``max_resources``.

    Parameters
    ----------
    {estimator, param_distributions}
    n_candidates : int or "exhaust", default="exhaust"
        How many start. "exhaust": so many that one is left in the last rung, which is ``eta`` to
        the number of further rungs. With fewer, the first rung begins with more of the resource.
    {resource to pre_dispatch}

    Attributes
    ----------
    {cv_results_ to scorer_}

    See Also
    --------
    HyperbandSearchCV : Several such brackets, when it is not known how early candidates can be told
        apart.

    References
    ----------
    .. [1] Z. Karnin, T. Koren, O. Somekh, "Almost optimal exploration in multi-armed bandits", ICML
       2013. https://proceedings.mlr.press/v28/karnin13.html
    .. [2] K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter
       optimization", AISTATS 2016. https://arxiv.org/abs/1502.07943
       There all rungs cost about the same in total; ours follow the rungs of Hyperband's Algorithm
       1.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn import datasets, linear_model
    >>> from sklearn_autorec.model_selection import SuccessiveHalvingSearchCV
    >>> X, y = datasets.load_iris(return_X_y=True)
    >>> search = SuccessiveHalvingSearchCV(
    ...     linear_model.SGDClassifier(tol=None, random_state=0),
    ...     {"alpha": loguniform(1e-5, 1)},
    ...     resource="max_iter",
    ...     max_resources=9,
    ...     warm=True,
    ...     random_state=0,
    ... ).fit(X, y)
    >>> search.cv_results_["n_resources"].tolist()
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 9]
    >>> search.total_resources_
    21
    """

    _parameter_constraints = {
        **ResourceSearchCV._parameter_constraints,
        "n_candidates": [Interval(Integral, 1, None, closed="left"), StrOptions({"exhaust"})],
    }

    @stores_own_and_common(TrialSearchCV)
    def __init__(
        self,
        estimator,
        param_distributions,
        *,
        n_candidates="exhaust",
        resource="n_samples",
        max_resources="auto",
        min_resources="smallest",
        eta=3,
        warm=False,
        sampler="random",
        refit=True,
        **common: Unpack[SearchOptions],
    ):
        """Store the parameters."""

    def _brackets(self, max_resources, min_resources):
        s = largest_power(self.eta, max_resources // min_resources)
        n = self.eta**s if self.n_candidates == "exhaust" else self.n_candidates
        s = min(s, largest_power(self.eta, n))
        return [(s, rungs_of(n, s, max_resources, self.eta))]
