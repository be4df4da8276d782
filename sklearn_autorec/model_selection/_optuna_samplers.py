"""Samplers of candidates: at random without repetition, and Optuna's TPE and GP."""

import warnings
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..utils._docs import inherits_entries
from ._samplers import SAMPLERS
from ._spaces import Choice, Integers, Space


class UniformSampler:
    """Candidates at random, each once as long as there are new ones.

    Parameters
    ----------
    param_distributions : dict or list of dict
        Lists or distributions of scipy.stats by parameter name.
    random_state : int, RandomState or None
    """

    n_startup = 1  # candidates before the sampler has something to go by

    def __init__(self, param_distributions, random_state=None):
        self.space = Space(param_distributions)
        self.random_state = check_random_state(random_state)
        self.seen = set()

    @property
    def left(self):
        """How many candidates have not been asked for; infinite with a continuous parameter."""
        return self.space.size - len(self.seen)

    def forget(self, but=None):
        """All candidates, but one, may be asked for again."""
        self.seen.clear()
        if but is not None and np.isfinite(self.space.size):
            self.seen.add(self.space.number(*self.space.encode(but)))

    def ask(self, n):
        """``n`` candidates as a list of dicts, or as many as there are. Once all were asked for it
        begins anew.
        """
        n = min(n, self.space.size)
        if self.left < n:
            self.forget()
        return [self.space.decode(*self._new(*point)) for point in self._propose(n)]

    def tell(self, params, score, resource=None):
        """The score of a candidate, higher being better; minus infinity if it failed.

        Parameters
        ----------
        params : dict
            Of this sampler or from elsewhere in its space.
        score : float
        resource : int, optional
            Units it was trained for; scores of different resources are not compared.
        """
        if np.isfinite(self.space.size):
            self.seen.add(self.space.number(*self.space.encode(params)))

    def _propose(self, n):
        return [self.space.random(self.random_state) for _ in range(n)]

    def _new(self, b, point):
        """The point, or one at random if it was asked for before."""
        size = self.space.size
        if not np.isfinite(size):
            return b, point
        number = self.space.number(b, point)
        if number in self.seen:
            if 2 * len(self.seen) > size:
                number = self.random_state.choice(
                    [k for k in range(size) if k not in self.seen]
                ).item()
            while number in self.seen:
                b, point = self.space.random(self.random_state)
                number = self.space.number(b, point)
        self.seen.add(number)
        return self.space.numbered(number)


def _import_optuna(name):
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            f'sampler="{name}" needs optuna: pip install "sklearn-autorec[bayes]".'
        ) from error
    return optuna


@contextmanager
def _quiet(optuna):
    """Optuna neither writes nor warns; its level of logging is what it was afterwards."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)


class _OptunaSampler(UniformSampler):
    """Optuna proposes points of the space. Candidates of one ``ask`` know of each other, so that a
    batch is spread.

    Parameters
    ----------
    n_startup : int, default=None
        Random candidates before the model, and scores of one resource that the model needs. None is
        two for each parameter and one more, at most ten.
    """

    name: str

    def __init__(
        self, param_distributions, random_state=None, *, n_startup=None, random_fraction=None
    ):
        super().__init__(param_distributions, random_state)
        self.optuna = _import_optuna(self.name)
        n_parameters = sum(map(len, self.space.branches))
        self.n_startup = min(10, 2 * n_parameters + 1) if n_startup is None else n_startup
        self.random_fraction = random_fraction
        self.told = {}  # by point: (resource, score, branch, point)
        self.study = None

    def _propose(self, n):
        points = super()._propose(n)
        if sum(np.isfinite(score) for _, score, *_ in self.told.values()) < max(self.n_startup, 1):
            return points
        fraction = self.random_fraction
        if fraction is None:
            fraction = 1 / 3 if any(resource for resource, *_ in self.told.values()) else 0.0
        modelled = self.random_state.uniform(size=n) >= fraction
        with _quiet(self.optuna):
            if self.study is None:
                self._model_what_was_told()
            trials = []
            for k in np.flatnonzero(modelled):
                trials.append(self.study.ask())
                points[k] = self._suggest(trials[-1])
            # Scores come as trials of their own: `tell` may have parameters from elsewhere.
            for trial in trials:
                self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
        return points

    def tell(self, params, score, resource=None):
        super().tell(params, score, resource)
        b, point = self.space.encode(params)
        resource = resource or 0
        key = (b, *point.values())
        if key in self.told and self.told[key][0] > resource:
            return
        self.told[key] = (resource, float(score), b, point)
        if self.study is not None and resource == 0 and np.isfinite(score):
            with _quiet(self.optuna):
                self._add(b, point, float(score))
        else:
            self.study = None

    def _model_what_was_told(self):
        self.study = self.optuna.create_study(direction="maximize", sampler=self._model())
        values = _comparable([(resource, score) for resource, score, *_ in self.told.values()])
        for (_, _, b, point), value in zip(self.told.values(), values, strict=True):
            self._add(b, point, float(value))

    def _suggest(self, trial):
        branches = self.space.branches
        b = trial.suggest_categorical("branch", range(len(branches))) if len(branches) > 1 else 0
        point = {}
        for name, d in branches[b].items():
            key = f"{b}:{name}"
            if isinstance(d, Choice):
                point[name] = trial.suggest_categorical(key, range(d.size))
            elif isinstance(d, Integers):
                point[name] = trial.suggest_int(key, d.low, d.high)
            else:
                point[name] = trial.suggest_float(key, 0.0, 1.0)
        return b, point

    def _add(self, b, point, value):
        of = self.optuna.distributions
        values, distributions = {}, {}
        if len(self.space.branches) > 1:
            values["branch"] = b
            distributions["branch"] = of.CategoricalDistribution(range(len(self.space.branches)))
        for name, d in self.space.branches[b].items():
            key = f"{b}:{name}"
            values[key] = point[name]
            if isinstance(d, Choice):
                distributions[key] = of.CategoricalDistribution(range(d.size))
            elif isinstance(d, Integers):
                distributions[key] = of.IntDistribution(d.low, d.high)
            else:
                distributions[key] = of.FloatDistribution(0.0, 1.0)
        self.study.add_trial(
            self.optuna.trial.create_trial(params=values, distributions=distributions, value=value)
        )

    def _model(self):
        raise NotImplementedError

    def _seed(self):
        return self.random_state.randint(np.iinfo(np.int32).max)


def _comparable(told):
    """One finite value for each (resource, score).

    Of different resources, the ranks: by resource, then by score. Whoever was sent on was better
    than those that were not, and these are needed: a model of the survivors alone takes what it
    does not know for promising, and looks where candidates were dropped. What failed is worse than
    everything else."""
    resources, scores = np.array(told).T
    good = np.isfinite(scores)
    values = scores.copy()
    if len(set(resources)) > 1:
        order = np.lexsort((scores[good], resources[good]))
        values[good] = np.argsort(order)
    values[~good] = values[good].min() - (values[good].std() or 1.0)
    return values


@inherits_entries
class TPESampler(_OptunaSampler):
    """Densities of the good and of the bad candidates (Bergstra et al., 2011), by Optuna.

    Parameters
    ----------
    param_distributions : dict or list of dict
        Lists or distributions of scipy.stats by parameter name.
    random_state : int, RandomState or None
    {n_startup}
    random_fraction : float or None, default=None
        Share of random candidates afterwards. None is 1/3 if scores come with resources (a model of
        short runs may mislead), else 0.

    Raises
    ------
    ImportError
        Optuna is not installed.
    """

    name = "tpe"

    def _model(self):
        return self.optuna.samplers.TPESampler(seed=self._seed(), n_startup_trials=1)


@inherits_entries
class GPSampler(_OptunaSampler):
    """Gaussian process with log expected improvement, by Optuna. It loads torch once the model
    starts.

    Parameters
    ----------
    param_distributions : dict
        Lists or distributions of scipy.stats by parameter name.
    random_state : int, RandomState or None
    {n_startup}
    random_fraction : float or None, default=None
        Share of random candidates afterwards. None is 1/3 if scores come with resources, else 0.

    Raises
    ------
    ImportError
        Optuna is not installed.
    ValueError
        The space is a list of several dicts.
    """

    name = "gp"

    def __init__(
        self, param_distributions, random_state=None, *, n_startup=None, random_fraction=None
    ):
        super().__init__(
            param_distributions, random_state, n_startup=n_startup, random_fraction=random_fraction
        )
        if len(self.space.branches) > 1:
            raise ValueError(
                'sampler="gp" models one dict of param_distributions, got a list of '
                f'{len(self.space.branches)}; allowed are sampler="tpe" and "random", or a '
                f"PlanSearchCV with "
                "Conditioning on the parameter that tells the dicts apart."
            )

    def _model(self):
        return self.optuna.samplers.GPSampler(seed=self._seed(), n_startup_trials=1)


MODELS: dict[str, Any] = {"tpe": TPESampler, "gp": GPSampler}
POINT_SAMPLERS = {**MODELS, "random": UniformSampler}
SAMPLERS.update(MODELS)  # Hyperband with TPE is BOHB
