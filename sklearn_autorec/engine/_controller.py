"""A controller that learns by rewards which values to choose."""

import copy
import math
from typing import Any

import torch
from torch import nn

from ..nn._relaxed import own_generator
from ._policies import ChoiceSpace, check_scores, text_of


class CategoricalController:
    r"""REINFORCE over independent categorical choices.

    With logits :math:`\theta_k` for every name k, rewards R of sampled configurations a, a baseline
    b and the entropy H of the distribution, Adam ascends

    .. math:: \frac{1}{n} \sum_i (R_i - b) \sum_k \log \pi_k(a_{ik}) + \beta H(\pi),

    after which :math:`b \leftarrow \rho b + (1 - \rho) \bar R`. The first batch is its own
    baseline. Configurations repeat, more and more often as the controller settles. A candidate
    that failed counts like the worst one so far.

    Parameters
    ----------
    choices : dict of str to list
        See `ChoiceSpace`.
    generator : torch.Generator
        One number is drawn from it, the seed of a generator of the controller's own.
    n_steps : int
        Updates, each by ``batch_size`` samples.
    batch_size : int
        n.
    lr : float
        Adam's learning rate of the logits.
    baseline_decay : float in [0, 1)
        :math:`\rho`.
    entropy_bonus : float
        :math:`\beta`, in units of the rewards' deviation if ``standardize``.
    standardize : bool
        Whether R - b is divided by the root of the moving average of its square, so that the bonus
        means the same for rewards of any size.

    Attributes
    ----------
    logits : list of Tensor (number of values,)
    baseline : float or None
    best : (dict, float) or None
        The configuration of the highest reward so far, of several the first, and that reward.

    References
    ----------
    .. [1] Williams, R. J. "Simple Statistical Gradient-Following Algorithms for Connectionist
       Reinforcement Learning", Machine Learning 8, 1992. https://doi.org/10.1007/BF00992696
    .. [2] Pham, H. et al. "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018
       (whose controller is an LSTM). https://arxiv.org/abs/1802.03268
    """

    def __init__(
        self,
        choices: dict[str, Any],
        generator: torch.Generator,
        *,
        n_steps: int = 100,
        batch_size: int = 8,
        lr: float = 0.1,
        baseline_decay: float = 0.9,
        entropy_bonus: float = 0.01,
        standardize: bool = True,
    ) -> None:
        for name, value, allowed, fits in (
            ("n_steps", n_steps, "at least 1", n_steps >= 1),
            ("batch_size", batch_size, "at least 1", batch_size >= 1),
            ("lr", lr, "positive", 0 < lr < math.inf),
            ("baseline_decay", baseline_decay, "in [0, 1)", 0 <= baseline_decay < 1),
            ("entropy_bonus", entropy_bonus, "0 or positive", 0 <= entropy_bonus < math.inf),
        ):
            if not fits:
                raise ValueError(f"{name}={value!r} must be {allowed}.")
        self.choices = ChoiceSpace(choices).choices
        self.n_steps, self.batch_size = n_steps, batch_size
        self.baseline_decay, self.entropy_bonus = baseline_decay, entropy_bonus
        self.standardize = standardize
        self.logits = [nn.Parameter(torch.zeros(len(v))) for v in self.choices.values()]
        self.baseline: float | None = None
        self.best: tuple[dict, float] | None = None
        self._generator = own_generator(generator)
        self._optimizer = torch.optim.Adam(self.logits, lr=lr)
        self._square: float | None = None  # moving average of squared advantages
        self._worst: float | None = None
        self._step = 0
        self._asked: torch.Tensor | None = None  # (n, number of names)

    def configuration(self, actions):
        """The configuration of positions, one for each name."""
        return {
            name: values[int(k)]
            for (name, values), k in zip(self.choices.items(), actions, strict=True)
        }

    def most_likely(self):
        """The configuration of the largest logits; of equals the first."""
        return self.configuration([logits.argmax() for logits in self.logits])

    def loss(self, actions, advantages):
        """What the optimiser descends.

        Parameters
        ----------
        actions : int64 Tensor (n, number of names)
            Positions of the sampled values.
        advantages : Tensor (n,)
            R - b.

        Returns
        -------
        Tensor ()
        """
        log_p = [torch.log_softmax(logits, 0) for logits in self.logits]
        chosen = sum(log_p_k[actions[:, k]] for k, log_p_k in enumerate(log_p))
        return -(advantages * chosen).mean() - self.entropy_bonus * self.entropy()

    def entropy(self):
        """Entropy of a configuration in nats, a scalar Tensor."""
        log_p = [torch.log_softmax(logits, 0) for logits in self.logits]
        return -sum((log_p_k.exp() * log_p_k).sum() for log_p_k in log_p)

    @torch.no_grad()
    def ask(self):
        """The next candidates; those of the last call again if their scores were not told."""
        if self._step >= self.n_steps:
            return []
        if self._asked is None:
            drawn = [
                torch.multinomial(
                    torch.softmax(logits, 0), self.batch_size, True, generator=self._generator
                )
                for logits in self.logits
            ]
            self._asked = torch.stack(drawn, 1)
        return [copy.deepcopy(self.configuration(actions)) for actions in self._asked]

    def tell(self, scores):
        """Rewards of the candidates that ``ask`` gave, in their order; one step of the optimiser.

        Raises
        ------
        ValueError
            If they are more or fewer.
        """
        scores = check_scores(scores, [] if self._asked is None else self._asked)
        if self._asked is None:
            return
        finite = [score for score in scores if math.isfinite(score)]
        if finite:
            highest = max(finite)
            if self.best is None or highest > self.best[1]:
                self.best = (self.configuration(self._asked[scores.index(highest)]), highest)
            self._worst = min([*finite, math.inf if self._worst is None else self._worst])
        if self._worst is not None:
            self._learn([self._worst if math.isnan(score) else score for score in scores])
        self._asked = None
        self._step += 1

    def _learn(self, rewards):
        rewards, decay = torch.tensor(rewards, dtype=torch.float64), self.baseline_decay
        mean = float(rewards.mean())
        if self.baseline is None:
            self.baseline = mean
        advantages = rewards - self.baseline
        if self.standardize:
            square = float(advantages.square().mean())
            self._square = (
                square if self._square is None else decay * self._square + (1 - decay) * square
            )
            advantages = advantages / (math.sqrt(self._square) or 1.0)
        self.baseline = decay * self.baseline + (1 - decay) * mean
        self._optimizer.zero_grad()
        self.loss(self._asked, advantages.float()).backward()
        self._optimizer.step()

    def proposals(self):
        """Yield lists of candidates and receive lists of their scores, to the end of the search."""
        while candidates := self.ask():
            self.tell((yield candidates))

    def state_dict(self):
        """All that the rest of the search depends on: tensors and plain values."""
        return {
            "choices": copy.deepcopy(self.choices),
            "logits": [logits.detach().clone() for logits in self.logits],
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
            "generator": self._generator.get_state(),
            "moving": [self.baseline, self._square, self._worst],
            "best": copy.deepcopy(self.best),
            "step": self._step,
            "asked": None if self._asked is None else self._asked.clone(),
        }

    def load_state_dict(self, state):
        """Go on where ``state_dict`` was taken.

        Raises
        ------
        ValueError
            If that search had other choices.
        """
        if text_of(state["choices"]) != text_of(self.choices):
            raise ValueError(
                f"the state is of a search over {state['choices']}, this one has {self.choices}."
            )
        with torch.no_grad():
            for own, logits in zip(self.logits, state["logits"], strict=True):
                own.copy_(logits)
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self._generator.set_state(state["generator"])
        self.baseline, self._square, self._worst = state["moving"]
        self.best = copy.deepcopy(state["best"])
        self._step = state["step"]
        self._asked = None if state["asked"] is None else state["asked"].clone()
