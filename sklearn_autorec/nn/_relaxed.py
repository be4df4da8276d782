"""Relaxations of discrete choices: what a search by gradients puts in place of "which one".

Noise comes from a `torch.Generator` that the caller gives, never from torch's global one, and is
drawn on the CPU. The modules draw it once a training step (``set_progress``), so that all passes of
a step, those of the architecture among them, see the same draw; out of training there is none.
"""

import math

import torch
from torch import nn

TEMPERATURE = 2 / 3  # of the hard concrete distribution, with its stretch: the paper's values
STRETCH = (-0.1, 1.1)


# Noise
# --------------------------------------------------------------------------------------------


def own_generator(generator):
    """A generator with a seed drawn from another: as many numbers are drawn for its owner whatever
    the rest of the network needs.
    """
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))


def gumbel_noise(shape, generator):
    """Draws of the standard Gumbel distribution, -log(-log u).

    Parameters
    ----------
    shape : tuple of int
    generator : torch.Generator
        On the CPU, where the draws are.

    Returns
    -------
    Tensor of that shape
    """
    uniform = torch.rand(shape, generator=generator).clamp_(1e-9, 1 - 1e-7)
    return -torch.log(-torch.log(uniform))


def logistic_noise(shape, generator):
    """Draws of the standard logistic distribution, log u - log(1 - u); see `gumbel_noise`."""
    uniform = torch.rand(shape, generator=generator).clamp_(1e-7, 1 - 1e-7)
    return torch.log(uniform) - torch.log1p(-uniform)


# Annealing
# --------------------------------------------------------------------------------------------


def annealed(first, last, t, *, warmup=0.0, schedule="linear"):
    r"""A temperature on its way from the first value to the last.

    With s = max(t - warmup, 0) / (1 - warmup): :math:`a + (b - a) s` ("linear") or
    :math:`a (b / a)^s` ("exponential").

    Parameters
    ----------
    first, last : float
        At s = 0 and s = 1; positive for "exponential".
    t : float in [0, 1]
        Share of the steps done.
    warmup : float in [0, 1)
        Share of the steps during which the first value holds.
    schedule : {"linear", "exponential"}

    Raises
    ------
    ValueError
        If the schedule has another name, or t is not in [0, 1].
    """
    if not 0 <= t <= 1:
        raise ValueError(f"t={t!r} must be the share of the steps done, in [0, 1].")
    if schedule == "linear":
        return first + (last - first) * max(t - warmup, 0.0) / (1 - warmup)
    if schedule == "exponential":
        return first * (last / first) ** (max(t - warmup, 0.0) / (1 - warmup))
    raise ValueError(f"schedule={schedule!r} must be 'linear' or 'exponential'.")


def check_temperatures(temperature):
    """A first and a last temperature as a tuple.

    Raises
    ------
    ValueError
        If they are not two positive finite numbers.
    """
    if len(temperature) != 2 or not all(0 < value < math.inf for value in temperature):
        raise ValueError(
            f"temperature must be two positive numbers, first and last, got {temperature!r}."
        )
    return tuple(temperature)


# One of several
# --------------------------------------------------------------------------------------------


def straight_through(hard, soft):
    """The values of one tensor with the gradient of another.

    Parameters
    ----------
    hard, soft : Tensor of one shape
        ``soft`` must be finite.

    Returns
    -------
    Tensor
        Equal to ``hard`` to the bit.
    """
    return hard.detach() + (soft - soft.detach())


def one_hot_of_largest(weights):
    """One-hot along the last axis; of equals the first, so that there is never more than one."""
    best = weights.argmax(-1, keepdim=True)
    return torch.zeros_like(weights).scatter(-1, best, 1.0)


def gumbel_softmax(logits, temperature, noise=None, *, hard=False):
    r"""Relaxed one-hot draws of a categorical distribution.

    .. math:: p_n = \mathrm{softmax}_n \left( (\log \mathrm{softmax}(a)_n + g_n) / \tau \right)

    Parameters
    ----------
    logits : Tensor (..., N)
        a.
    temperature : float
        :math:`\tau`, positive.
    noise : Tensor that broadcasts to (..., N), or None
        g, of `gumbel_noise`; None is without noise.
    hard : bool
        Whether the values are one-hot, with the gradient of p.

    Returns
    -------
    Tensor (..., N)
        Sums to one along the last axis. Its largest entry is that of a + g at any temperature,
        hence n with probability softmax(a)_n.

    References
    ----------
    .. [1] Jang, E., Gu, S., Poole, B. "Categorical Reparameterization with Gumbel-Softmax", ICLR
       2017, eq. 2 and section 2.2. https://arxiv.org/abs/1611.01144
    """
    logits = torch.log_softmax(logits, -1)
    if noise is not None:
        logits = logits + noise
    soft = torch.softmax(logits / temperature, -1)
    return straight_through(one_hot_of_largest(soft), soft) if hard else soft


class GumbelSoftmax(nn.Module):
    """Sampled weights of candidates whose temperature falls during the search; logits (..., N) to
    weights (..., N).

    Parameters
    ----------
    shape : tuple of int
        Of the noise; broadcasts to that of the logits.
    generator : torch.Generator
        One number is drawn from it, the seed of a generator of the module's own.
    temperatures : (float, float)
        First and last.
    warmup : float in [0, 1)
        Share of the steps during which ``warming`` is true and the temperature is the first. What
        weights mean in a warm-up is the caller's.
    schedule : {"linear", "exponential"}
    hard : bool
        See `gumbel_softmax`. Out of training the weights are one-hot as well.

    Attributes
    ----------
    noise : Tensor of that shape
        Of this step; zero before the first.
    temperature : float
    warming : bool
    """

    def __init__(
        self, shape, generator, temperatures, *, warmup=0.0, schedule="linear", hard=False
    ):
        super().__init__()
        self.temperatures, self.warmup = check_temperatures(temperatures), warmup
        self.schedule, self.hard = schedule, hard
        self.temperature, self.warming = self.temperatures[0], warmup > 0
        self.register_buffer("noise", torch.zeros(shape), persistent=False)
        self.generator = own_generator(generator)

    def set_progress(self, t):
        """Draw the noise of this step and cool down."""
        self.warming = t < self.warmup
        self.temperature = annealed(
            *self.temperatures, t, warmup=self.warmup, schedule=self.schedule
        )
        self.noise.copy_(gumbel_noise(self.noise.shape, self.generator))

    def forward(self, logits):
        noise = self.noise if self.training else None
        return gumbel_softmax(logits, self.temperature, noise, hard=self.hard)


# Each in or out
# --------------------------------------------------------------------------------------------


def hard_concrete(log_alpha, noise=None, *, temperature=TEMPERATURE, stretch=STRETCH):
    r"""Gates in [0, 1] that are exactly 0, and exactly 1, with positive probability.

    With the ends :math:`\gamma < 0` and :math:`\zeta > 1` of the stretch:

    .. math:: s = \sigma \left( (\log u - \log (1 - u) + \log \alpha) / \beta \right), \quad
              z = \min(1, \max(0, s (\zeta - \gamma) + \gamma)),

    and without noise :math:`s = \sigma(\log \alpha)`.

    Parameters
    ----------
    log_alpha : Tensor
    noise : Tensor that broadcasts with it, or None
        log u - log(1 - u), of `logistic_noise`; None gives the gates that serve.
    temperature : float
        :math:`\beta`, in (0, 1].
    stretch : (float, float)
        :math:`\gamma` and :math:`\zeta`.

    Returns
    -------
    Tensor

    References
    ----------
    .. [1] Louizos, C., Welling, M., Kingma, D. P. "Learning Sparse Neural Networks through L0
       Regularization", ICLR 2018, eq. 10, 11 and 13. https://arxiv.org/abs/1712.01312
    """
    low, high = stretch
    s = torch.sigmoid(log_alpha if noise is None else (log_alpha + noise) / temperature)
    return (s * (high - low) + low).clamp(0, 1)


def probability_of_open(log_alpha, *, temperature=TEMPERATURE, stretch=STRETCH):
    r"""Probability that a hard concrete gate is not zero; its sum is the expected L0 norm.

    .. math:: P(z \ne 0) = \sigma \left( \log \alpha - \beta \log (-\gamma / \zeta) \right)

    Eq. 12 of Louizos et al.; parameters as of `hard_concrete`.
    """
    low, high = stretch
    return torch.sigmoid(log_alpha - temperature * math.log(-low / high))


def probability_of_one(log_alpha, *, temperature=TEMPERATURE, stretch=STRETCH):
    r"""Probability that a hard concrete gate is exactly one; parameters as of `hard_concrete`.

    .. math:: P(z = 1) = \sigma \left( \log \alpha - \beta \log \frac{1 - \gamma}{\zeta - 1} \right)
    """
    low, high = stretch
    return torch.sigmoid(log_alpha - temperature * math.log((1 - low) / (high - 1)))


class HardConcreteGates(nn.Module):
    """Hard concrete gates of one shape: sampled in training, fixed otherwise; () -> gates.

    Parameters
    ----------
    shape : tuple of int
    generator : torch.Generator
        One number is drawn from it, the seed of a generator of the module's own.
    open_probability : float in (0, 1)
        Of all gates at the start.
    temperature, stretch
        See `hard_concrete`.

    Attributes
    ----------
    log_alpha : Parameter of that shape
    noise : Tensor of that shape
        Of this step; zero before the first.
    """

    def __init__(
        self, shape, generator, *, open_probability=0.9, temperature=TEMPERATURE, stretch=STRETCH
    ):
        super().__init__()
        low, high = stretch
        for name, value, allowed, fits in (
            ("open_probability", open_probability, "in (0, 1)", 0 < open_probability < 1),
            ("temperature", temperature, "in (0, 1]", 0 < temperature <= 1),
            ("stretch", stretch, "below 0 and above 1", low < 0 and high > 1),
        ):
            if not fits:
                raise ValueError(f"{name}={value!r} of hard concrete gates must be {allowed}.")
        self.options = {"temperature": temperature, "stretch": (low, high)}
        start = math.log(open_probability / (1 - open_probability))
        start += temperature * math.log(-low / high)
        self.log_alpha = nn.Parameter(torch.full(shape, start))
        self.register_buffer("noise", torch.zeros(shape), persistent=False)
        self.generator = own_generator(generator)

    def set_progress(self, t):
        """Draw the noise of this step."""
        self.noise.copy_(logistic_noise(self.noise.shape, self.generator))

    def forward(self):
        return hard_concrete(self.log_alpha, self.noise if self.training else None, **self.options)

    def expected_open(self):
        """Expected number of gates that are not zero, a scalar: the L0 penalty."""
        return probability_of_open(self.log_alpha, **self.options).sum()


# One operation of several
# --------------------------------------------------------------------------------------------


class OperationMixture(nn.Module):
    r"""Candidate operations mixed by weights: :math:`\bar o(x) = \sum_n p_n o_n(x)`.

    Parameters
    ----------
    candidates : iterable of nn.Module
        Of the same inputs, and outputs of one shape. They should be of one scale too (a batch norm
        without affine terms behind each): else the weights compare sizes.
    generator : torch.Generator
        Of the initial logits, which are normal of standard deviation 0.001.
    relaxation : callable (N,) logits -> (N,) weights, or None
        Such as `GumbelSoftmax`; None is the softmax of DARTS.
    never_chosen : tuple of int
        Candidates that only the mixture has, such as DARTS's "none".

    Attributes
    ----------
    logits : Parameter (N,)
        The architecture parameters.

    References
    ----------
    .. [1] Liu, H., Simonyan, K., Yang, Y. "DARTS: Differentiable Architecture Search", ICLR 2019,
       eq. 2. https://arxiv.org/abs/1806.09055
    """

    def __init__(self, candidates, generator, *, relaxation=None, never_chosen=()):
        super().__init__()
        self.candidates = nn.ModuleList(candidates)
        n = len(self.candidates)
        self.choosable = [k for k in range(n) if k not in set(never_chosen)]
        if not self.choosable:
            raise ValueError(
                f"never_chosen={never_chosen!r} leaves none of the {n} candidates to choose."
            )
        self.logits = nn.Parameter(1e-3 * torch.randn(n, generator=generator))
        self.relaxation = relaxation

    def weights(self):
        """Weights of the candidates, (N,)."""
        return (
            torch.softmax(self.logits, 0)
            if self.relaxation is None
            else self.relaxation(self.logits)
        )

    def forward(self, *inputs):
        weights = self.weights()
        total = weights[0] * self.candidates[0](*inputs)
        for weight, candidate in zip(weights[1:], self.candidates[1:], strict=True):
            total = total + weight * candidate(*inputs)
        return total

    def chosen(self):
        """Position of the candidate of the largest logit; of equals the first."""
        logits = self.logits.tolist()
        return max(self.choosable, key=logits.__getitem__)

    def pruned(self):
        """The chosen candidate itself, weights and all."""
        return self.candidates[self.chosen()]
