"""Hyperband: successive halving in brackets, from many candidates stopped early to a few that
nobody stops.
"""

from typing import Unpack

from ..utils._docs import inherits_entries
from ..utils._parameters import stores_own_and_common
from ._halving import ResourceSearchCV, largest_power, rungs_of
from ._trials import SearchOptions, TrialSearchCV


@inherits_entries
class HyperbandSearchCV(ResourceSearchCV):
    """Successive halving in brackets, from many candidates stopped early to a few that all get the
    whole resource.

    With little of a resource candidates that learn slowly look bad. Hyperband does not need to know
    how little is too little: bracket s gives its ceil((s_max + 1) eta**s / (s + 1)) candidates
    max_resources / eta**s each and sends the best floor(n / eta) of a rung on to eta times as much;
    bracket 0 stops nobody. All brackets cost about the same.

    Parameters
    ----------
    {estimator, param_distributions}
    brackets : list of int or None, default=None
        Which brackets to run, in this order, by the number s of their halvings; None runs all from
        s_max, the largest s that leaves ``min_resources`` for the first rung, down to 0. A number
        may be repeated.
    {resource to pre_dispatch}

    Attributes
    ----------
    {cv_results_ to scorer_}

    See Also
    --------
    SuccessiveHalvingSearchCV : A single bracket.

    References
    ----------
    .. [1] L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh, A. Talwalkar, "Hyperband: a novel
       bandit-based approach to hyperparameter optimization", JMLR 18 (2018), Algorithm 1.
       https://arxiv.org/abs/1603.06560
       We depart from it in one thing: the winner has the best score among those with the whole
       resource, not the best of all rungs, which are not comparable in general.
    .. [2] S. Falkner, A. Klein, F. Hutter, "BOHB: robust and efficient hyperparameter optimization
       at scale", ICML 2018, of candidates that a model proposes. https://arxiv.org/abs/1807.01774

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn import datasets, linear_model
    >>> from sklearn_autorec.model_selection import HyperbandSearchCV
    >>> X, y = datasets.load_iris(return_X_y=True)
    >>> space = {"alpha": loguniform(1e-5, 1)}
    >>> model = linear_model.SGDClassifier(tol=None, random_state=0)
    >>> search = HyperbandSearchCV(
    ...     model, space, resource="max_iter", max_resources=9, warm=True, random_state=0
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

    @stores_own_and_common(TrialSearchCV)
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
        refit=True,
        **common: Unpack[SearchOptions],
    ):
        """Store the parameters."""

    def _brackets(self, max_resources, min_resources):
        s_max = largest_power(self.eta, max_resources // min_resources)
        chosen = list(range(s_max, -1, -1) if self.brackets is None else self.brackets)
        if not chosen or any(s not in range(s_max + 1) for s in chosen):
            raise ValueError(f"brackets={self.brackets!r}: there are those from 0 to {s_max}.")
        sizes = {s: -(-(s_max + 1) * self.eta**s // (s + 1)) for s in chosen}
        return [(s, rungs_of(sizes[s], s, max_resources, self.eta)) for s in chosen]
