"""One-shot search: a supernet trained along random paths ranks them by the weights they share."""

from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from ._arch_steps import _undisturbed
from ._policies import DRAWS, numpy_random


class UniformPaths(nn.Module):
    """Which path through a supernet is taken: in training another one every step.

    A searchable module holds it and reads ``current`` in its forward pass. All paths share the
    weights of the supernet; trained that way, `one_shot_scores` compares them without training any
    of them alone.

    Parameters
    ----------
    space : object
        Has ``draw(random)``; see `ChoiceSpace`. Draws are repaired if it has ``repair``.
    generator : torch.Generator
        One number is drawn from it.

    Attributes
    ----------
    current : dict
        The configuration of the path. A first one is drawn at once.

    References
    ----------
    .. [1] Guo, Z. et al. "Single Path One-Shot Neural Architecture Search with Uniform Sampling",
       ECCV 2020, section 3.2. https://arxiv.org/abs/1904.00420
    """

    def __init__(self, space, generator):
        super().__init__()
        self.space = space
        self._random = numpy_random(generator)
        self.set_progress(0.0)

    def set_progress(self, t):
        """Draw the path of this step."""
        repair = getattr(self.space, "repair", None)
        for _ in range(DRAWS):
            configuration = self.space.draw(self._random)
            if repair is not None:
                configuration = repair(configuration)
            if configuration is not None:
                self.current = configuration
                return
        raise ValueError(f"{DRAWS} draws from the space have not given one valid configuration.")

    @contextmanager
    def at(self, configuration):
        """Take the path of a configuration, and the one from before afterwards."""
        before, self.current = self.current, configuration
        try:
            yield
        finally:
            self.current = before


def one_shot_scores(paths, candidates, score, *, module=None, batches=()):
    """Scores of paths through a trained supernet, by the weights that they share.

    Parameters
    ----------
    paths : UniformPaths
        Of the supernet.
    candidates : iterable of dict
    score : callable () -> float
        Judges the network as it is, ``lambda: -problem.score(result, rows)`` for instance, in eval
        mode and on rows that it was not trained on.
    module : nn.Module or None
        The network. The batch statistics that training has left are those of all paths mixed. If
        given, each path gets statistics of its own first, from passes over ``batches``; afterwards
        those from before are back.
    batches : sequence of EncodedTensors
        A few dozen: running averages forget a tenth with each.

    Returns
    -------
    list of float
        Of each candidate.
    """
    scores = []
    for candidate in candidates:
        with paths.at(candidate), nullcontext() if module is None else _training_mode(module):
            with torch.no_grad():
                for batch in batches:
                    module(**batch.inputs)
            if module is not None:
                module.eval()
            scores.append(float(score()))
    return scores


@contextmanager
def _training_mode(module):
    """Training mode without dropout; mode and batch statistics are put back."""
    was_training = module.training
    module.train()
    try:
        with _undisturbed(module):
            yield
    finally:
        module.train(was_training)
