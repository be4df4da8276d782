"""Search by a plan: the parameters are taken apart into blocks, which take turns."""

import math
from numbers import Integral
from typing import Unpack

import numpy as np

from ...utils._docs import inherits_entries
from ...utils._parameters import stores_own_and_common
from ...utils._sklearn import Interval
from .._bayes import BayesSearchCV
from .._trials import SearchOptions, Trial, TrialSearchCV
from ._plan_blocks import Block, Build, Joint


@inherits_entries
class PlanSearchCV(BayesSearchCV):
    """Search by a plan of blocks, after VolcanoML [1]_.

    A plan takes a large space apart: `Joint` searches parameters together, `Conditioning` compares
    the values of one parameter and drops the hopeless ones, `Alternating` improves one part at a
    time. Blocks contain blocks. The five plans of the paper, for a choice ``net`` of the model and
    steps ``select`` and ``net``:

    1. ``Joint()``
    2. ``Conditioning("net", Joint())``
    3. ``Alternating(Joint("select__*"), Joint())``
    4. ``Alternating(Joint("select__*"), Conditioning("net", Joint()))``
    5. ``Conditioning("net", Alternating(Joint("select__*"), Joint()))``

    The samplers of a plan of several blocks begin with four random candidates each, those of an
    `Alternating` with the same.

    Departures: bounds of arms are not cut at 1, so that any score will do, and their slope divides
    by the number of gains; the best scores of one part are carried over, moved by the measured
    gain, when another part gets better, instead of starting anew; the block of the larger recent
    gain is next, as the paper says (its code alternates strictly).

    Parameters
    ----------
    estimator : estimator
        Any estimator of scikit-learn's interface, usually a pipeline.
    param_distributions : dict or list of dict
        As in `BayesSearchCV`. With a list of dicts each choice has parameters of its own; a
        `Conditioning` whose values tell the dicts apart stands around each `Alternating`.
    plan : Joint, Conditioning or Alternating, default=None
        None is ``Joint()``. Each parameter is in one block.
    n_iter : int or None, default=50
        Candidates. The search ends before if all blocks have tried everything they can. None needs
        ``max_time``.
    sampler : {"tpe", "gp", "random"}, default="tpe"
        Of each `Joint` that names none.
    batch_size : int, default=1
        Candidates that a block proposes at a time.
    {max_time}
    scoring, refit, cv, n_jobs, pre_dispatch, verbose, error_score, return_train_score
        As in scikit-learn's `RandomizedSearchCV <sklearn.model_selection.RandomizedSearchCV>`. A
        candidate that fails counts as the worst one.
    random_state : int, RandomState or None
        Seed of the samplers.
    {checkpoint, candidate_timeout}

    Attributes
    ----------
    cv_results_ : dict
        All candidates of all blocks, with a column ``block`` that says who proposed them.
    blocks_ : dict of str to dict
        For each block of ``cv_results_`` and each arm: ``n_candidates``, ``best_score``, and
        ``dropped_after`` (pulls, or None).
    best_estimator_, best_params_, best_score_, best_index_, scorer_, n_splits_, refit_time_,
    multimetric_
        As in scikit-learn.
    {stopped_}

    References
    ----------
    .. [1] Li et al., "VolcanoML: speeding up end-to-end AutoML via scalable search space
       decomposition", VLDB 2021. https://arxiv.org/abs/2107.08861

    Examples
    --------
    >>> from scipy.stats import loguniform, randint
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.feature_selection import SelectKBest
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_autorec.model_selection import Alternating, Conditioning, Joint, PlanSearchCV
    >>> pipe = Pipeline(
    ...     [("scale", StandardScaler()), ("select", SelectKBest()), ("model", GaussianNB())]
    ... )
    >>> search = PlanSearchCV(
    ...     pipe,
    ...     [
    ...         {
    ...             "select__k": randint(1, 14),
    ...             "model": [LogisticRegression()],
    ...             "model__C": loguniform(1e-3, 1e3),
    ...         },
    ...         {
    ...             "select__k": randint(1, 14),
    ...             "model": [GaussianNB()],
    ...             "model__var_smoothing": loguniform(1e-12, 1),
    ...         },
    ...     ],
    ...     plan=Conditioning("model", Alternating(Joint("select__*"), Joint("model__*"))),
    ...     n_iter=16,
    ...     sampler="random",
    ...     random_state=0,
    ... ).fit(*load_wine(return_X_y=True))
    >>> [str(block) for block in search.cv_results_["block"][:2]]
    ['model=LogisticRegression#0/start', 'model=GaussianNB#1/start']
    >>> str(search.cv_results_["block"][2])
    'model=LogisticRegression#0/Joint(select__*)'
    >>> bool(search.best_score_ > 0.95)
    True
    """

    _parameter_constraints: dict[str, list] = {
        **BayesSearchCV._parameter_constraints,
        "plan": [Block, None],
        "n_iter": [Interval(Integral, 1, None, closed="left"), None],
    }

    @stores_own_and_common(TrialSearchCV)
    def __init__(
        self,
        estimator,
        param_distributions,
        *,
        plan=None,
        n_iter=50,
        sampler="tpe",
        batch_size=1,
        refit=True,
        **common: Unpack[SearchOptions],
    ):
        """Store the parameters."""

    def _build(self, random_state):
        plan = Joint() if self.plan is None else self.plan
        return Build(plan, self.param_distributions, self.sampler, random_state)

    def _check_search(self):
        if self.n_iter is None and self.max_time is None:
            raise ValueError("n_iter=None needs max_time, in seconds; got max_time=None.")
        self._build(np.random.RandomState(0))

    def _policy(self, random_state):
        build = self._build(random_state)
        self._bandits = build.bandits
        root, left = build.root, math.inf if self.n_iter is None else self.n_iter
        while left > 0 and not root.exhausted:
            asked = root.ask(min(self.batch_size, left))
            left -= len(asked)
            outcomes = yield [Trial(params, columns={"block": block}) for params, block in asked]
            scored = [(params, o.score) for (params, _), o in zip(asked, outcomes, strict=True)]
            root.tell(scored, left / self.batch_size)

    def _publish(self, run):
        proposed = [str(block) for block in self.cv_results_["block"]]
        metric = self.refit if self.multimetric_ and isinstance(self.refit, str) else "score"
        scores = self.cv_results_.get(f"mean_test_{metric}")
        arms = {node.path: None for bandit in self._bandits for _, node in bandit.alive.values()}
        dropped = {
            path: pulls for bandit in self._bandits for path, pulls in bandit.dropped.items()
        }
        del self._bandits
        self.blocks_ = {}
        for path in sorted({*proposed, *arms, *dropped}):
            rows = [
                k
                for k, block in enumerate(proposed)
                if block == path or block.startswith(path + "/")
            ]
            finite = (
                []
                if scores is None
                else [float(score) for score in scores[rows] if np.isfinite(score)]
            )
            self.blocks_[path] = {
                "n_candidates": len(rows),
                "best_score": max(finite, default=None),
                "dropped_after": dropped.get(path),
            }
