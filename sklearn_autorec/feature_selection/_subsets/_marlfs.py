"""MARLFS: one reinforcement-learning agent per field, and its follow-ups."""

from numbers import Integral
from typing import Unpack

from ...utils._docs import inherits_entries
from ...utils._parameters import stores_own_and_common
from ...utils._sklearn import Interval, StrOptions
from ._agent_selector import AgentOptions, AgentSelector
from ._many_agents import ManyAgents
from ._scan import Scan


@inherits_entries
class MARLFS(AgentSelector):
    """Feature selection by multi-agent reinforcement learning: one deep Q-network per column.

    In every step each agent, seeing a description of the current subset, keeps its column or leaves
    it. The subset is scored by cross-validation; the agents hear the reward, score + relevance -
    redundancy, and learn from a memory of transitions. All networks are one module of batched
    matrices. The best subset seen is kept.

    Parameters
    ----------
    {estimator}
    n_features_to_select : "auto", int or float, default="auto"
        Columns to keep; a float is a share of all. With a number, every subset has so many: those
        with the largest advantage of "yes" over "no".
    state : {"statistics", "autoencoder", "graph"}, default="statistics"
        What agents see of a subset: seven statistics over its columns of seven statistics of each;
        the mean of the columns' codes by an autoencoder; statistics passed along a graph of
        similarities.
    {relevance_weight}
    credit : {"all", "participants"}, default="all"
        Who hears the reward: all agents, or as in the paper those whose column is in this subset or
        was in the one before, while the others hear 0. With the paper's rule an agent never learns
        how the others do without its column.
    advisor : {"kbest", "tree", "hybrid"} or None, default=None
        Interactive reinforcement learning (AutoFS): in every other step of the first half, agents
        that newly chose their column give it up if it is not important enough by mutual
        information, by a decision tree, or by the one and then the other. A tree is a fit of its
        own, on coded columns, which is not counted as an evaluation.
    n_groups : int or None, default=None
        Agents decide on groups of similar columns (AutoGFS), so many at most.
    scan : bool, default=False
        A single agent goes over the columns by falling relevance and decides on each in turn
        (SADRLFS). Needs ``n_features_to_select="auto"``, no advisor and no groups.
    {scoring, cv}
    n_steps : int, default=600
        Steps of the search (of a scan: decisions on one column).
    {max_evaluations, max_time}
    {epsilon to gamma}
    memory_size, batch_size : int, default=200, 32
        Transitions kept and transitions of an update.
    n_updates : int, default=2
        Updates of the networks in a step.
    {target_update, replay}
    n_walks : int, default=1
        Subsets walked side by side, whose fits ``n_jobs`` can share. The result depends on it, on
        ``n_jobs`` it does not.
    {random_state, n_jobs}

    Attributes
    ----------
    {support_ to ranking_}
    {selection_frequency_, relevance_}
    best_score_, no_fields_score_ : float
        Score of the kept subset and of a constant prediction.
    {search_history_ to feature_names_in_}

    Notes
    -----
    ``best_score_`` is the largest of many scores on the same folds and therefore too good; score
    the kept columns on rows that the search never saw.

    Departures from the papers, whose full texts leave much open. Rewards are standardised over the
    search, so that taking part in a bad subset is a loss; with plain accuracies, which are never
    negative, every agent would learn to say yes. All agents hear the whole reward (``credit``), not
    those that took part a share each. Columns are described by codes (values by frequency, tenths
    of numbers); mutual information is less what independent columns would show, and a column is not
    redundant with itself. The autoencoder reads columns, is trained once, and its codes are
    averaged. A scan's reward is the change that a decision made.

    References
    ----------
    .. [1] K. Liu et al. Automating feature subspace exploration via multi-agent reinforcement
       learning. KDD 2019. https://doi.org/10.1145/3292500.3330868
    .. [2] W. Fan et al. AutoFS: automated feature selection via diversity-aware interactive
       reinforcement learning. ICDM 2020. https://arxiv.org/abs/2008.12001
    .. [3] W. Fan et al. AutoGFS: automated group-based feature selection via interactive
       reinforcement learning. SDM 2021.
    .. [4] X. Zhao et al. Simplifying reinforced feature selection via restructured choice strategy
       of single agent. ICDM 2020. https://arxiv.org/abs/2009.09230

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_autorec.feature_selection import MARLFS
    >>> X = np.random.default_rng(0).integers(0, 2, (300, 6))
    >>> y = X[:, 1] | X[:, 4]
    >>> MARLFS(DecisionTreeClassifier(random_state=0), max_evaluations=40, random_state=0).fit(
    ...     X, y
    ... ).get_support(indices=True)
    array([1, 4])
    """

    _parameter_constraints = {
        **AgentSelector._parameter_constraints,
        "credit": [StrOptions({"all", "participants"})],
        "advisor": [None, StrOptions({"kbest", "tree", "hybrid"})],
        "n_groups": [None, Interval(Integral, 1, None, closed="left")],
        "scan": ["boolean"],
        "n_walks": [Interval(Integral, 1, None, closed="left")],
    }

    @stores_own_and_common(AgentSelector)
    def __init__(
        self,
        estimator,
        *,
        n_features_to_select="auto",
        credit="all",
        advisor=None,
        n_groups=None,
        scan=False,
        n_walks=1,
        **common: Unpack[AgentOptions],
    ):
        """Store the parameters."""

    def _begin(self, X, y, scorer, size, rng):
        self._check_memory()
        if self.scan:
            others = {"advisor": self.advisor, "n_groups": self.n_groups}
            given = [f"{name}={value!r}" for name, value in others.items() if value is not None]
            if size is not None:
                given.append(f"n_features_to_select={self.n_features_to_select!r}")
            if given:
                raise ValueError(
                    f"scan=True has one agent that chooses the number itself; leave out "
                    f"{', '.join(given)}."
                )
            return Scan(self, X, y, scorer, size, rng)
        return ManyAgents(self, X, y, scorer, size, rng)
