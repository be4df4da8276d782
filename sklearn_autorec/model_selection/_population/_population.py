"""Population-based training (PBT): models train side by side, and the worst copy the best."""

import time
from numbers import Integral, Real
from typing import Any, Self, Unpack

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.utils import indexable

from ...utils._docs import inherits_entries
from ...utils._frames import takes_frames
from ...utils._parameters import stores_own_and_common
from ...utils._sklearn import Interval, Options, StrOptions, validate_parameters
from ...utils._state import all_or_nothing
from ...utils._typing import Column
from .._mutation import draw, truncation_sources
from .._running._evaluate import continue_fit, split_fold
from .._trials import SearchOptions, Trial, TrialSearchCV
from ._explore import Explorer, smooth_names
from ._members import Gradients, behind, fitted_head, last_name, last_step, split_parameters
from ._population_checks import check_population

__all__ = ["PopulationSearchCV"]

ONE_SPLIT = ShuffleSplit(n_splits=1, test_size=0.2, random_state=0)


@inherits_entries
class PopulationSearchCV(TrialSearchCV):
    """Population-based training: hyperparameters that change while models train.

    ``population`` models train side by side. Every ``step`` units all are scored; the worst then go
    on as copies of some of the best (exploit), with changed hyperparameters (explore). What is
    found is a schedule and the model that was trained along it, not a set of parameters to train
    with from the start.

    Parameters
    ----------
    estimator : estimator
        That goes on where it stopped, by ``partial_fit`` (a call is a unit) or ``warm_start``. In a
        Pipeline the last step goes on, the others are fitted once.
    param_distributions : dict of str to list or distribution
        From which members are drawn at the start: lists of values, or distributions of scipy.stats.
    resource : str, default="max_epochs"
        Parameter that counts units (``"max_iter"``, ``"n_estimators"``, in a Pipeline
        ``"clf__max_epochs"``).
    step : int, default=1
        Units between two scores.
    n_steps : int, default=10
        Scores of each member: a member trains ``step * n_steps`` units in all.
    population : int, default=8
        Members.
    quantile : float in [0, 0.5], default=0.25
        Share of members that copy, and share from which they copy; at least one member. 0 turns
        copies off: members then train as they began, which is random search.
    factors : tuple of float, default=(0.8, 1.2)
        Factors, of which one is drawn for each number of a copied member. Results stay within the
        distribution's support; an integer that rounding would leave where it is moves by one.
    resample : float in [0, 1], default=0.25
        Probability that a number is drawn anew instead. Listed values are always drawn anew.
    mutable : list of str or None, default=None
        Parameters that may change on a model in training; None is all. The others belong to a
        member for life, and are copied with it.
    explore : {"random", "learned"}, default="random"
        "learned" lets a teacher choose the factors of numbers for which the estimator has
        hypergradients; see `HyperMutation`. Experimental.
    hypergradient : bool, default=False
        Move these numbers along their hypergradients in every step, of every member (hypertraining
        of HPM). Needs a method ``hypergradient`` of the estimator; see Notes.
    hyper_step : float, default=0.05
        Length of such a step on the unit scale, on which the distribution of each parameter is
        uniform in [0, 1].
    teacher_step : float, default=0.1
        Length of a step of the teacher; see `HyperMutation`.
    probe_rows : int, default=256
        Before the search, mutable parameters are tried on models of so many rows: one that changes
        nothing in a fitted model, or makes it start anew, is refused. 0 trusts the caller.
    checkpoint : path-like or None, default=None
        Folder in which finished evaluations and models are kept; a search that was killed goes on
        from there. The files are pickles: use only folders that you trust.
    {candidate_timeout}
    scoring : str, callable, list, tuple, dict or None, default=None
        Several metrics are allowed with ``refit=False``; the first decides.
    n_jobs : int or None, default=None
        Members that train side by side. Results do not depend on it.
    refit : {"keep", "replay"} or False, default="keep"
        What ``best_estimator_`` is: the surviving model itself, trained on the training rows of the
        split; or a new one that follows the schedule on all rows.
    cv : int, splitter, iterable or None, default=None
        A single split, unless ``refit=False``: with several, a member is one model per split. None
        is ``ShuffleSplit(n_splits=1, test_size=0.2, random_state=0)``.
    verbose : int, default=0
        As in scikit-learn; without effect on models that go on.
    pre_dispatch : int or str, default="2*n_jobs"
        As in scikit-learn.
    random_state : int, RandomState or None, default=None
        Of draws, copies and factors. Models take theirs from the estimator.
    error_score : "raise" or float, default=nan
        Score of a member whose training fails; it then copies one of the best.
    return_train_score : bool, default=False
        Also score the training rows.
    max_time : float or None, default=None
        Seconds after which no further training starts.

    Attributes
    ----------
    best_estimator_ : estimator
        See ``refit``.
    best_index_ : int
        Row of the best member in its last step (not the best score of all steps: that model is
        gone).
    best_params_ : dict
        Its last hyperparameters. A new model trained with them is another model: see ``schedule_``.
    best_score_ : float
    lineage_ : ndarray of int
        Rows of ``cv_results_`` from the first step to the winner, through copies.
    schedule_ : DataFrame
        The same as a table: "row", "member", "step", "n_resources", "score" and the parameters with
        which the units before this score were trained.
    cv_results_ : dict of ndarray
        A row for each member and step. Besides scikit-learn's columns: "step" (from 1), "member",
        "parent" (row that it went on from, -1 at the start), "n_resources" and "n_resources_spent".
    n_splits_, scorer_, multimetric_, refit_time_
        As in scikit-learn's searches.
    {stopped_}

    See Also
    --------
    RegularizedEvolutionSearchCV : Evolution of parameters that cannot change on a live model.

    Notes
    -----
    *The score is optimistic.* The same rows decide ``n_steps`` times who survives: keep rows aside
    for a final test.

    *Hypergradients.* The protocol is a method ``hypergradient(X_val, y_val, names) -> dict`` of the
    fitted estimator (the last step of a Pipeline): derivative of a validation loss by each of the
    named parameters it knows, unnamed ones are left to random exploration. It is called in the main
    process after each step. Parameters move on the scale on which their distribution is uniform,
    between 0.01 and 1, since factors cannot leave zero.

    Departures: selection is synchronous (the same bits for any ``n_jobs``), the paper's is not; of
    HPM's joint training the hyperparameters move once per ``step``, between two calls of the
    estimator, not at every gradient of its weights.

    References
    ----------
    .. [1] Jaderberg, M. et al. "Population Based Training of Neural Networks", 2017.
       https://arxiv.org/abs/1711.09846
    .. [2] Tao, Z. et al. "Learning to Mutate with Hypergradient Guided Population", NeurIPS 2020.
       https://papers.nips.cc/paper/2020/hash/ccb421d5f36c5a412816d494b15ca9f6-Abstract.html

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn import datasets, linear_model
    >>> from sklearn_autorec.model_selection import PopulationSearchCV
    >>> X, y = datasets.make_classification(300, random_state=0)
    >>> model = linear_model.SGDClassifier(
    ...     loss="log_loss", learning_rate="constant", eta0=0.01, random_state=0
    ... )
    >>> space = {"eta0": loguniform(1e-3, 1), "alpha": loguniform(1e-6, 1e-2)}
    >>> search = PopulationSearchCV(
    ...     model, space, resource="max_iter", population=4, n_steps=3, random_state=0
    ... ).fit(X, y)
    >>> len(search.schedule_), search.best_estimator_.t_ == 3 * 240 + 1
    (3, True)
    """

    cv: Any
    _parameter_constraints = {
        **TrialSearchCV._parameter_constraints,
        "param_distributions": [dict],
        "resource": [str],
        "step": [Interval(Integral, 1, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "population": [Interval(Integral, 1, None, closed="left")],
        "quantile": [Interval(Real, 0, 0.5, closed="both")],
        "factors": ["array-like"],
        "resample": [Interval(Real, 0, 1, closed="both")],
        "mutable": [list, tuple, None],
        "explore": [StrOptions({"random", "learned"})],
        "hypergradient": ["boolean"],
        "hyper_step": [Interval(Real, 0, None, closed="neither")],
        "teacher_step": [Interval(Real, 0, None, closed="neither")],
        "probe_rows": [Interval(Integral, 0, None, closed="left")],
        "refit": [StrOptions({"keep", "replay"}), Options(bool, {False})],
    }

    warm = True

    @stores_own_and_common(TrialSearchCV)
    def __init__(
        self,
        estimator,
        param_distributions,
        *,
        resource="max_epochs",
        step=1,
        n_steps=10,
        population=8,
        quantile=0.25,
        factors=(0.8, 1.2),
        resample=0.25,
        mutable=None,
        explore="random",
        hypergradient=False,
        hyper_step=0.05,
        teacher_step=0.1,
        probe_rows=256,
        refit="keep",
        **common: Unpack[SearchOptions],
    ):
        """Store the parameters."""

    @all_or_nothing
    @takes_frames
    def fit(self, X: Any, y: Column = None, **params: Any) -> Self:
        """Train the population.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
        **params : dict
            For ``partial_fit`` (or ``fit``) of the estimator, the scorer and the splitter.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            A parameter is not allowed, the estimator cannot go on, or a parameter cannot change on
            a live model; the checkpoint belongs to another search; nothing was evaluated.
        """
        validate_parameters(self)
        X, y = indexable(X, y)
        given = self.cv
        try:
            if given is None:  # elsewhere in scikit-learn it means five splits
                self.cv = ONE_SPLIT
            check_population(self, X, y, params.get("groups"))
            return super().fit(X, y, **params)
        finally:
            self.cv = given
            self.__dict__.pop("_gradients", None)

    def _open_checkpoint(self, X, y, params):
        keep = super()._open_checkpoint(X, y, params)
        self._gradients = None
        if self.hypergradient:
            names = [last_name(self.estimator, name) for name in smooth_names(self)]
            fit_params = self._get_routed_params_for_fit(params).estimator.fit
            self._gradients = keep = Gradients(keep, self.estimator, X, y, fit_params, names)
        return keep

    def _policy(self, random_state):
        space = sorted(self.param_distributions.items())
        explorer = Explorer(self, random_state)
        batch = []
        for member in range(self.population):
            params = {name: draw(distribution, random_state) for name, distribution in space}
            batch.append(
                Trial(params, self.step, columns={"step": 1, "member": member, "parent": -1})
            )
        for step in range(1, self.n_steps + 1):
            if self._gradients is not None:
                self._gradients.expect((step - 1) * self.population, batch)
            outcomes = yield batch
            if step == self.n_steps:
                return
            found = [{} if self._gradients is None else self._gradients.of(o.row) for o in outcomes]
            slopes = [
                explorer.slopes(o.trial.params, gradient)
                for o, gradient in zip(outcomes, found, strict=True)
            ]
            explorer.learn(slopes)
            batch = []
            for k, source in enumerate(
                truncation_sources([o.score for o in outcomes], self.quantile, random_state)
            ):
                parent = outcomes[source]
                before = parent.trial.params
                params = explorer.changed(k, before, slopes[source], copied=source != k)
                edits = {name: value for name, value in params.items() if value is not before[name]}
                columns = {"step": step + 1, "member": k, "parent": parent.row}
                batch.append(Trial(params, self.step * (step + 1), parent.row, edits, columns))

    @staticmethod
    def _select_best_index(refit, refit_metric, results):
        """The best of the newest rows of all members: older models are gone."""
        newest = {member: row for row, member in enumerate(results["member"])}
        rank = results[f"rank_test_{refit_metric}"]
        return min(sorted(newest.values()), key=lambda row: rank[row])

    def _lineage(self, run):
        """Rows of the winner's training. Behind a failure it began anew, with all its units at
        once.
        """

        def failed(row):
            return any(
                result["fit_error"]
                for result in run.out[row * self.n_splits_ : (row + 1) * self.n_splits_]
            )

        rows = [int(self.best_index_)]
        while (parent := run.rows[rows[-1]].parent) is not None and not failed(parent):
            rows.append(parent)
        return rows[::-1]

    def _refit(self, X, y, fit_params, metadata, context, run):
        context = context.subcontext(task_name="refit-with-best-params")
        told = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        context.call_on_fit_task_begin(**told)
        start = time.time()
        try:
            refit = self._kept if self.refit == "keep" else self._replayed
            self.best_estimator_ = refit(X, y, fit_params, run)
        finally:
            context.call_on_fit_task_end(**told)
        self.refit_time_ = time.time() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_

    def _kept(self, X, y, fit_params, run):
        """The surviving model; in a Pipeline behind the steps that made its rows."""
        model, params = run.states[self.best_index_, 0], run.rows[self.best_index_].params
        if model is None:
            raise ValueError(
                "no model of the last step could be trained; see the warnings about failed fits."
            )
        if not isinstance(self.estimator, Pipeline):
            return model
        X_train, y_train, _, _, fit_params = split_fold(
            self.estimator, X, y, *run.splits[0], fit_params
        )
        head, _, _ = fitted_head(self.estimator, params, X_train, y_train, fit_params)
        return behind(self.estimator, head, model)

    def _replayed(self, X, y, fit_params, run):
        """A new model that follows the winner's schedule on all rows."""
        trials = [run.rows[row] for row in self._lineage(run)]
        first = trials[0].params
        head = None
        if isinstance(self.estimator, Pipeline):
            head, X, fit_params = fitted_head(self.estimator, first, X, y, fit_params)
        _, inner = split_parameters(self.estimator, first)
        model = clone(last_step(self.estimator, first)).set_params(**clone(inner, safe=False))
        resource = last_name(self.estimator, self.resource)
        before = 0
        for trial in trials:
            if before:
                edits = {
                    last_name(self.estimator, name): value for name, value in trial.edits.items()
                }
                model.set_params(**clone(edits, safe=False))
            units = trial.resource - before
            continue_fit(model, X, y, units, trial.resource, resource, run.classes, fit_params)
            before = trial.resource
        return (
            behind(self.estimator, head, model) if isinstance(self.estimator, Pipeline) else model
        )

    def _publish(self, run):
        for name in ("lineage_", "schedule_"):
            self.__dict__.pop(name, None)
        if not hasattr(self, "best_index_") or self.multimetric_:
            return
        self.lineage_ = np.array(self._lineage(run))
        scores = self.cv_results_["mean_test_score"]
        self.schedule_ = pd.DataFrame(
            [
                {
                    "row": row,
                    "member": run.rows[row].columns["member"],
                    "step": run.rows[row].columns["step"],
                    "n_resources": run.rows[row].resource,
                    "score": scores[row],
                    **run.rows[row].params,
                }
                for row in self.lineage_
            ]
        )
