"""Regularized evolution: the best of a few mutates, the oldest dies."""

from numbers import Integral, Real
from operator import attrgetter
from typing import Unpack

from ..utils._docs import inherits_entries
from ..utils._evolution import AgingQueue, first_new
from ..utils._parameters import stores_own_and_common
from ..utils._sklearn import Interval
from ._mutation import check_distributions, draw, draw_other, has_scale, is_listed, walk
from ._running._checkpoint import identity
from ._trials import SearchOptions, Trial, TrialSearchCV

__all__ = ["RegularizedEvolutionSearchCV"]


@inherits_entries
class RegularizedEvolutionSearchCV(TrialSearchCV):
    """Aging evolution over the parameters of any estimator.

    A queue of ``population`` candidates. In each turn ``tournament`` of them are drawn, the best of
    these gets a child that differs in one parameter, the child joins the queue and the oldest
    leaves it, however good it was.

    Parameters
    ----------
    estimator : estimator
        Any with ``fit``: also a Pipeline or another library's.
    param_distributions : dict of str to list or distribution
        Lists of values, or distributions of scipy.stats.
    n_iter : int, default=100
        Candidates to evaluate, the first population included.
    population : int, default=25
        Length of the queue; drawn at random at the start. The paper has 100, for 20,000 candidates.
    tournament : int, default=6
        Candidates of which the best is the parent. 1 mutates random parents; the larger, the
        greedier.
    batch_size : int, default=4
        Children whose parents are drawn before any of them is evaluated. It bounds how many can be
        evaluated side by side, and unlike ``n_jobs`` it changes what is found; 1 is the paper's
        algorithm.
    mutation_scale : float, default=0.2
        Standard deviation of a number's change, on the scale on which its distribution is uniform
        in [0, 1].
    checkpoint : path-like or None, default=None
        Folder in which finished evaluations are kept; a search that was killed goes on from there.
        The files are pickles: use only folders that you trust.
    {candidate_timeout}
    scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score
        As in scikit-learn's searches. With several metrics ``refit`` names the one that decides,
        and the first does if ``refit=False``.
    random_state : int, RandomState or None, default=None
        Of draws, tournaments and mutations.
    max_time : float or None, default=None
        Seconds after which no further evaluation starts.

    Attributes
    ----------
    best_estimator_, best_index_, best_params_, best_score_, n_splits_, scorer_, multimetric_,
    refit_time_
        As in scikit-learn's searches: the best of all candidates, also of those that have left the
        queue.
    cv_results_ : dict of ndarray
        A row for each candidate in the order of birth. Besides scikit-learn's columns: "parent" (a
        row; -1 for the first population) and "mutated" (name of the changed parameter, or "").
    {stopped_}

    See Also
    --------
    PopulationSearchCV : For parameters that may change while a model trains.

    Notes
    -----
    One parameter changes, each with equal probability: a list gives another of its values, a
    distribution a normal step on its own scale, reflected at the ends (an integer moves by at least
    one); one without ``cdf`` is drawn anew.

    Departures: a child that was evaluated before is mutated again (up to 20 times), since an
    evaluation of equal parameters tells nothing new; the paper's identity mutation is left out for
    the same reason. The paper evolves cells of networks; its two mutations (another operation,
    another input) are changes of one listed value here.

    References
    ----------
    .. [1] Real, E. et al. "Regularized Evolution for Image Classifier Architecture Search", AAAI
       2019, algorithm 1. https://arxiv.org/abs/1802.01548

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn import datasets, svm
    >>> from sklearn_autorec.model_selection import RegularizedEvolutionSearchCV
    >>> space = {
    ...     "C": loguniform(1e-2, 1e3),
    ...     "gamma": loguniform(1e-4, 1e1),
    ...     "kernel": ["rbf", "sigmoid"],
    ... }
    >>> search = RegularizedEvolutionSearchCV(
    ...     svm.SVC(), space, n_iter=24, population=8, tournament=3, random_state=0
    ... )
    >>> bool(search.fit(*datasets.load_iris(return_X_y=True)).best_score_ > 0.95)
    True
    """

    _parameter_constraints = {
        **TrialSearchCV._parameter_constraints,
        "param_distributions": [dict],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "population": [Interval(Integral, 1, None, closed="left")],
        "tournament": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "mutation_scale": [Interval(Real, 0, None, closed="neither")],
    }

    @stores_own_and_common(TrialSearchCV)
    def __init__(
        self,
        estimator,
        param_distributions,
        *,
        n_iter=100,
        population=25,
        tournament=6,
        batch_size=4,
        mutation_scale=0.2,
        refit=True,
        **common: Unpack[SearchOptions],
    ):
        """Store the parameters."""

    def _check_search(self):
        check_distributions(self.param_distributions, self.estimator)
        if self.tournament > self.population:
            raise ValueError(
                f"tournament={self.tournament} draws from a population of {self.population}: it "
                f"must not be larger."
            )

    def _policy(self, random_state):
        queue = AgingQueue(self.population, self.tournament, attrgetter("score"))
        seen: set = set()
        left = self.n_iter
        while left:
            batch = []
            size = min(self.batch_size if queue else self.population, left)
            for _ in range(size):
                if queue:
                    trial = self._child(queue.parent(random_state), seen, random_state)
                else:
                    trial = self._first(seen, random_state)
                seen.add(identity(trial.params))
                batch.append(trial)
            queue.join((yield batch))
            left -= size

    def _first(self, seen, random_state):
        space = sorted(self.param_distributions.items())
        params, _ = first_new(
            lambda: {name: draw(distribution, random_state) for name, distribution in space},
            lambda params: identity(params) not in seen,
        )
        return Trial(params, columns={"parent": -1, "mutated": ""})

    def _child(self, parent, seen, random_state):
        before = parent.trial.params
        (name, value), _ = first_new(
            lambda: self._mutation(before, random_state),
            lambda change: identity({**before, change[0]: change[1]}) not in seen,
        )
        return Trial({**before, name: value}, columns={"parent": parent.row, "mutated": name})

    def _mutation(self, params, random_state):
        """A parameter and its new value."""
        movable = [
            n for n, d in sorted(self.param_distributions.items()) if not is_listed(d) or len(d) > 1
        ]
        name = (movable or sorted(self.param_distributions))[
            random_state.randint(len(movable) or len(params))
        ]
        distribution, value = self.param_distributions[name], params[name]
        if is_listed(distribution):
            return name, draw_other(distribution, value, random_state)
        if has_scale(distribution) and isinstance(value, int | float):
            return name, walk(distribution, value, self.mutation_scale, random_state)
        return name, draw(distribution, random_state)
