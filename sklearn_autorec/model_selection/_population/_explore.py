"""How a population search changes the parameters of a member that goes on."""

import numpy as np

from .._hypergradient import HyperMutation, gradient_step
from .._mutation import from_unit, has_scale, perturb, to_unit
from ._members import last_name


def mutable_names(search):
    """Names of the parameters that may change on a live model."""
    return sorted(search.param_distributions if search.mutable is None else search.mutable)


def smooth_names(search):
    """Those of them that hypergradients can move: with a continuous distribution."""
    space = search.param_distributions
    return [n for n in mutable_names(search) if has_scale(space[n]) and hasattr(space[n], "pdf")]


class Explorer:
    """Gradient steps, the teacher's mutations and random ones, for one run of a policy.

    Parameters
    ----------
    search : PopulationSearchCV
    random_state : numpy.random.RandomState
    """

    def __init__(self, search, random_state):
        self.search, self.space, self.random_state = (
            search,
            search.param_distributions,
            random_state,
        )
        self.mutable, self.smooth = mutable_names(search), smooth_names(search)
        self.short = [last_name(search.estimator, name) for name in self.smooth]
        self.teacher = HyperMutation(
            len(self.smooth), step=search.teacher_step, random_state=random_state
        )
        self.taught: dict[int, np.ndarray] = {}  # points before the teacher's mutations, by member

    def slopes(self, params, gradient):
        """A hypergradient on the unit scale.

        Parameters
        ----------
        params : dict
        gradient : dict of str to float
            Of some parameters, by their names in the last step.

        Returns
        -------
        ndarray of shape (n_smooth,)
            NaN where there is none.
        """
        found = np.full(len(self.smooth), np.nan)
        for j, (name, short) in enumerate(zip(self.smooth, self.short, strict=True)):
            if short in gradient:
                density = float(self.space[name].pdf(params[name]))
                found[j] = gradient[short] / density if 0 < density < np.inf else np.nan
        return found

    def learn(self, slopes):
        """Tell the teacher what became of its last mutations: slopes of all members, at the mutated
        points.
        """
        self.teacher.update([(u, np.nan_to_num(slopes[k])) for k, u in self.taught.items()])
        self.taught = {}

    def changed(self, member, params, slopes, copied):
        """Parameters of a member's next step.

        Parameters
        ----------
        member : int
        params : dict
            Those of the model that goes on.
        slopes : ndarray of shape (n_smooth,)
            Of that model.
        copied : bool
            Whether it is another member's.

        Returns
        -------
        dict
        """
        params = dict(params)
        known = np.flatnonzero(np.isfinite(slopes))
        taught = set()
        if len(known):
            u = np.array([to_unit(self.space[name], params[name]) for name in self.smooth])
            u = gradient_step(u, np.nan_to_num(slopes), self.search.hyper_step)
            if copied and self.search.explore == "learned":
                self.taught[member] = u
                u = self.teacher.mutate(u)
                taught = {self.smooth[j] for j in known}
            for j in known:
                params[self.smooth[j]] = from_unit(self.space[self.smooth[j]], u[j])
        if copied:
            factors, resample = self.search.factors, self.search.resample
            for name in self.mutable:
                if name not in taught:
                    params[name] = perturb(
                        self.space[name], params[name], factors, resample, self.random_state
                    )
        return params
