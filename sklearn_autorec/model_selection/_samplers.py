"""Where the searches get candidates from: ``ask`` for some, ``tell`` how they did."""

import warnings

from sklearn.model_selection import ParameterSampler


class RandomSampler:
    """Candidates at random, as scikit-learn's ``ParameterSampler`` draws them; what they scored
    changes nothing.

    Parameters
    ----------
    space : dict or list of dict
        Lists or distributions by parameter name. A space of lists alone is drawn from without
        replacement in a call.
    random_state : numpy.random.RandomState
    """

    def __init__(self, space, random_state):
        self.space = space
        self.random_state = random_state

    def ask(self, n):
        """At most n candidates, list of dict: fewer where the space has no more."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The total space of parameters")
            return list(ParameterSampler(self.space, n, random_state=self.random_state))

    def tell(self, params, score, resource):
        """Hear how a candidate did.

        Parameters
        ----------
        params : dict
        score : float
            The higher the better; minus infinity where it failed.
        resource : int or None
            With how much of the resource.
        """


SAMPLERS = {"random": RandomSampler}


def make_sampler(sampler, space, random_state):
    """The sampler of a name in `SAMPLERS`, or what a function ``sampler(space, random_state)``
    returns.
    """
    return (SAMPLERS[sampler] if isinstance(sampler, str) else sampler)(space, random_state)
