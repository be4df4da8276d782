"""Searches that propose whole configurations and hear their scores: evolution here, a controller in
``_controller.py``, paths of a supernet in ``_one_shot.py``.

`RegularizedEvolution` and `CategoricalController` have the same methods. ``ask()`` gives a list of
plain dicts (an empty one when the search is over), ``tell(scores)`` takes their scores, higher
being better, NaN where one failed. ``proposals()`` is the generator that does both, as
`SearchMethod.policy` returns it. ``state_dict()`` and ``load_state_dict(state)`` stop and resume
with the same bits, also between ``ask`` and ``tell``.
"""

import json
import math

import numpy as np
import torch

from ..utils._evolution import AgingQueue, first_new

DRAWS = 1000  # random configurations until a space counts as exhausted


def text_of(configuration, what="a configuration", kind=object):
    """One text for one configuration, whatever the order of its keys.

    Parameters
    ----------
    configuration : object
        What JSON knows.
    what : str
        What it is, for messages.
    kind : type
        Which it must be of.

    Raises
    ------
    TypeError
        If it is of another kind, or holds what JSON does not know.
    """
    if not isinstance(configuration, kind):
        raise TypeError(f"{what} must be a {kind.__name__}, got {configuration!r:.200}.")
    try:
        return json.dumps(configuration, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} must hold what JSON knows, got {configuration!r:.200}: {error}"
        ) from error


def numpy_random(generator):
    """A numpy generator with a seed drawn from a torch generator."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def check_scores(scores, asked):
    """Scores as floats, one for each candidate asked for, NaN where it failed."""
    scores = [math.nan if score is None else float(score) for score in scores]
    if len(scores) != len(asked):
        raise ValueError(
            f"tell was given {len(scores)} scores, ask has given {len(asked)} candidates."
        )
    return [score if math.isfinite(score) else math.nan for score in scores]


class ChoiceSpace:
    """Configurations with one of some listed values under every name.

    Parameters
    ----------
    choices : dict of str to list
        Values are what JSON knows, each once.
    repair : callable (configuration) -> dict or None, or None
        Makes a configuration valid, or gives None if that cannot be done.

    Raises
    ------
    ValueError
        If there are no choices, a list is empty or has a value twice.
    """

    def __init__(self, choices, repair=None):
        self.choices = {name: list(values) for name, values in choices.items()}
        if not self.choices:
            raise ValueError("choices={} must have a list of values under some names.")
        for name, values in self.choices.items():
            if not values or len({text_of(value) for value in values}) < len(values):
                raise ValueError(
                    f"choices[{name!r}] must list some values, each once, got {values!r}."
                )
        if repair is not None:
            self.repair = repair

    @property
    def size(self):
        """Number of configurations, invalid ones included."""
        return math.prod(len(values) for values in self.choices.values())

    def draw(self, random):
        """A configuration, all with equal probability."""
        return {
            name: values[int(random.integers(len(values)))] for name, values in self.choices.items()
        }

    def mutate(self, configuration, random):
        """A copy in which one name has another value; names and values with equal probability."""
        movable = [name for name, values in self.choices.items() if len(values) > 1]
        if not movable:
            return dict(configuration)
        name = movable[int(random.integers(len(movable)))]
        others = [v for v in self.choices[name] if text_of(v) != text_of(configuration[name])]
        return {**configuration, name: others[int(random.integers(len(others)))]}


class AskedAndTold:
    """Base of searches that are asked for configurations and told their scores.

    A subclass has ``ask``, ``tell`` and ``state_dict``, its ``settings``, a numpy generator
    ``_random``, and ``_restore(state)``, which takes up the rest of a state.
    """

    settings: dict
    _random: np.random.Generator

    def proposals(self):
        """Yield lists of candidates and receive lists of their scores, to the end of the search."""
        while candidates := self.ask():
            self.tell((yield candidates))

    def load_state_dict(self, state):
        """Go on where ``state_dict`` was taken, in the same space.

        Raises
        ------
        ValueError
            If that search had other settings (``n_evaluations`` may change).
        """
        if state["settings"] != self.settings:
            raise ValueError(
                f"the state is of a search with {state['settings']}, this one has {self.settings}."
            )
        self._random.bit_generator.state = state["random"]
        self._restore(state)


class RegularizedEvolution(AskedAndTold):
    """Aging evolution over plain-dict configurations, none of which is proposed twice.

    The first ``population`` configurations are drawn at random. Then children join a queue of that
    length, each a mutation of the best of ``tournament`` members; the oldest leaves, however good.
    Where ``TRIES`` mutations of a parent give nothing new, the child is drawn at random. The search
    ends after ``n_evaluations``, or if random draws give nothing new either.

    Parameters
    ----------
    space : object
        Has ``draw(random)`` and ``mutate(configuration, random)``, which give configurations and
        take a `numpy.random.Generator`; see `ChoiceSpace`. If it has ``repair(configuration)``,
        that is asked about every draw and child before it is proposed: it returns a valid
        configuration, or None, upon which another is tried.
    generator : torch.Generator
        One number is drawn from it.
    n_evaluations, population, tournament : int
        The paper has 20,000, 100 and 25.
    batch_size : int
        Children whose parents are drawn before any of them is scored. 1 is the paper's algorithm.

    Attributes
    ----------
    best : (dict, float) or None
        The configuration of the highest score so far, of several the first, and that score.

    Raises
    ------
    ValueError
        If a number is below 1, or the tournament is larger than the population.

    References
    ----------
    .. [1] Real, E. et al. "Regularized Evolution for Image Classifier Architecture Search", AAAI
       2019, algorithm 1. https://arxiv.org/abs/1802.01548
    """

    def __init__(
        self, space, generator, *, n_evaluations=100, population=25, tournament=6, batch_size=4
    ):
        self.settings = {
            "population": population,
            "tournament": tournament,
            "batch_size": batch_size,
        }
        for name, value in {"n_evaluations": n_evaluations, **self.settings}.items():
            if value < 1:
                raise ValueError(f"{name}={value!r} must be at least 1.")
        if tournament > population:
            raise ValueError(
                f"tournament={tournament} draws from a population of {population}: it must not be "
                f"larger."
            )
        self.space = space
        self.n_evaluations = n_evaluations
        self._random = numpy_random(generator)
        self._queue = self._queue_of(())
        self._seen: dict[str, None] = {}  # texts in the order of their proposal
        self._asked: list[str] = []
        self._best: list | None = None

    def _queue_of(self, members):
        """A queue of [text, score], the score None where the candidate failed."""
        return AgingQueue(
            self.settings["population"],
            self.settings["tournament"],
            lambda member: -math.inf if member[1] is None else member[1],
            members,
        )

    @property
    def best(self):
        return None if self._best is None else (json.loads(self._best[0]), self._best[1])

    def ask(self):
        """The next candidates; those of the last call again if their scores were not told."""
        if not self._asked:
            size = self.settings["batch_size" if self._queue else "population"]
            for _ in range(min(size, self.n_evaluations - len(self._seen))):
                text = self._child() if self._queue else None
                text = text or self._new(lambda: self.space.draw(self._random), DRAWS)
                if text is None:
                    break
                self._seen[text] = None
                self._asked.append(text)
        return [json.loads(text) for text in self._asked]

    def _child(self):
        parent = self._queue.parent(self._random)[0]
        return self._new(lambda: self.space.mutate(json.loads(parent), self._random))

    def _new(self, propose, *tries):
        """The text of a valid configuration that was not proposed before, or None."""
        repair = getattr(self.space, "repair", None)

        def attempt():
            configuration = propose() if repair is None else repair(propose())
            return None if configuration is None else text_of(configuration)

        text, is_new = first_new(
            attempt, lambda text: text is not None and text not in self._seen, *tries
        )
        return text if is_new else None

    def tell(self, scores):
        """Scores of the candidates that ``ask`` gave, in their order.

        Raises
        ------
        ValueError
            If they are more or fewer.
        """
        scores = [None if math.isnan(s) else s for s in check_scores(scores, self._asked)]
        for text, score in zip(self._asked, scores, strict=True):
            if score is not None and (self._best is None or score > self._best[1]):
                self._best = [text, score]
        self._queue.join([list(pair) for pair in zip(self._asked, scores, strict=True)])
        self._asked = []

    def state_dict(self):
        """All that the rest of the search depends on, a dict that JSON knows."""
        return {
            "settings": dict(self.settings),
            "random": self._random.bit_generator.state,
            "queue": [list(member) for member in self._queue.candidates],
            "seen": list(self._seen),
            "asked": list(self._asked),
            "best": None if self._best is None else list(self._best),
        }

    def _restore(self, state):
        self._queue = self._queue_of([list(member) for member in state["queue"]])
        self._seen = dict.fromkeys(state["seen"])
        self._asked = list(state["asked"])
        self._best = None if state["best"] is None else list(state["best"])
