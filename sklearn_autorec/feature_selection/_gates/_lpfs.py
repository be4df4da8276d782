"""LPFS and LPFS++: gates that learn to be exactly zero or nearly one."""

import math
from numbers import Real

import torch
from torch import nn

from ...base import SearchMethod
from ...nn import annealed
from ...utils._parameters import stores_parameters
from ...utils._sklearn import Interval, StrOptions
from ._fields import N_KEPT, FieldSearch, FixedGates, check_numbers, choose, with_unusable_last

MEMORY = 0.1  # share of the search over which |x| is averaged for the scores


def smoothed_l0(x, epsilon, alpha=0.0, tau=2.0):
    """x^2 / (x^2 + epsilon); with alpha > 0 the odd function of LPFS++, whose slope at 0 is not 0.

    Parameters
    ----------
    x : Tensor
    epsilon : float
    alpha, tau : float
        Weight of the arctan term, alpha epsilon^(1 / tau).
    """
    gate = x * x / (x * x + epsilon)
    return torch.sign(x) * gate + alpha * epsilon ** (1 / tau) * torch.arctan(x) if alpha else gate


class CommonScaleAdam(torch.optim.Optimizer):
    """Adam whose second moment is the mean over all elements of a parameter: relative strengths of
    gradients count.

    Parameters
    ----------
    params : iterable of Tensor
    lr : float
        An element whose gradient is steady and of the size of the others' root mean square moves so
        far in a step.
    betas : (float, float)
    eps : float
    """

    def __init__(self, params, lr, betas=(0.97, 0.99), eps=1e-12):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            (b1, b2), lr, eps = group["betas"], group["lr"], group["eps"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"], state["mean"], state["square"] = (
                        0,
                        torch.zeros_like(p),
                        p.new_zeros(()),
                    )
                state["step"] += 1
                state["mean"].lerp_(p.grad, 1 - b1)
                state["square"].lerp_(p.grad.square().mean(), 1 - b2)
                mean, square = (
                    state["mean"] / (1 - b1 ** state["step"]),
                    state["square"] / (1 - b2 ** state["step"]),
                )
                p.sub_(lr * (mean / (square.sqrt() + eps)).clamp_(-3, 3))


class PolarisedGates(nn.Module):
    """Smoothed-L0 gates, trained with the weights and shrunk towards zero at every step; -> (1, F).

    Parameters
    ----------
    context : BuildContext
    epsilons : (float, float)
        First and last, geometric in between.
    alpha, tau : float
        Of LPFS++; alpha=0 is LPFS.
    total_shrink, travel : float
        Sums of the soft thresholds and of the learning rates of all steps; both fall like
        sqrt(epsilon).
    """

    def __init__(self, context, epsilons, alpha, tau, total_shrink, travel):
        super().__init__()
        self.x = nn.Parameter(torch.ones(context.n_fields))
        self.field_axes = {"x": {0: context.axis("F")}}
        self.register_buffer("usable", torch.ones(context.n_fields), persistent=False)
        # Average of |x|.
        self.register_buffer("recent", torch.ones(context.n_fields), persistent=False)
        self.epsilons, self.alpha, self.tau = epsilons, alpha, tau
        self.total_shrink, self.travel = total_shrink, travel
        self.epsilon, self.unit, self.forgetting = epsilons[0], 1.0, 0.0
        self.optimizer: CommonScaleAdam | None = None

    def arch_parameters(self):
        return [self.x]

    def arch_optimizer(self, n_steps):
        self.forgetting = min(1 / (MEMORY * n_steps), 1.0)
        self.unit = sum(math.sqrt(self.epsilon_at(k / max(n_steps - 1, 1))) for k in range(n_steps))
        self.optimizer = CommonScaleAdam([self.x], lr=self.travel / self.unit)
        return self.optimizer

    def epsilon_at(self, t):
        return annealed(*self.epsilons, t, schedule="exponential")

    def set_progress(self, t):
        self.epsilon = self.epsilon_at(t)
        if self.optimizer is not None:
            self.optimizer.param_groups[0]["lr"] = self.travel * math.sqrt(self.epsilon) / self.unit

    @torch.no_grad()
    def after_step(self):
        """Proximal step of the L1 norm."""
        shrink = self.total_shrink * math.sqrt(self.epsilon) / self.unit
        self.x.copy_(nn.functional.softshrink(self.x, shrink) * self.usable)
        self.recent.lerp_(self.x.abs(), self.forgetting)

    def gates(self):
        """Gates of all fields, (F,); 1 where x is 1."""
        scale = smoothed_l0(torch.ones(()), self.epsilon, self.alpha, self.tau)
        return (
            smoothed_l0(self.x, self.epsilon, self.alpha, self.tau)
            / scale.to(self.x.device)
            * self.usable
        )

    def forward(self, e, inputs):
        # g(x) forwards; backwards the slope of g counts by its sign alone (0 for a closed gate of
        # LPFS).
        direction = self.x if self.alpha else torch.sign(self.x.detach()) * self.x
        return (direction + (self.gates() - direction).detach()).unsqueeze(0)

    def summary(self):
        return {"epsilon": self.epsilon, "open_gates": int((self.x != 0).sum())}


class LPFS(FieldSearch, SearchMethod):
    r"""Keep the fields whose gates do not shrink to exact zero.

    Every field's embedding is multiplied by a gate g(x), trained on the same batches as the weights
    (one level):

    .. math:: g(x) = \frac{x^2}{x^2 + \epsilon}, \qquad
              g_{++}(x) = \mathrm{sign}(x) \frac{x^2}{x^2 + \epsilon} +
              \alpha \epsilon^{1 / \tau} \arctan(x)

    After each step :math:`x \leftarrow \mathrm{sign}(x) \max(|x| - \lambda, 0)`. As
    :math:`\epsilon` falls, gates become either zero or nearly one, and dropping the closed fields
    leaves the network's function as it was. The final training goes on from there, with the open
    gates as constants.

    Parameters
    ----------
    plus : bool, default=True
        LPFS++, whose closed gates still have a gradient and may open again.
    n_kept : "auto", int or float in (0, 1), default="auto"
        How many fields to keep, or which share. "auto" keeps those with x other than zero, at least
        the best one.
    total_shrink : float, default=1.2
        Sum of the thresholds :math:`\lambda` of all steps. Gates start at x = 1: below 1 nothing
        closes unless the data pushes it. Larger drops more fields and sooner; near ``travel`` all
        of them.
    travel : float, default=1.8
        Sum of the learning rates of x over all steps, which is the way of a gate that is pulled
        steadily and as hard as the average gate. Larger keeps more fields.
    epsilon : tuple of (float, float), default=(0.1, 1e-4)
        First and last :math:`\epsilon`; falls geometrically with the share of steps done.
    alpha : float, default=10.0
        Weight of the arctan term of LPFS++.
    tau : float, default=2.0
        How slowly that term vanishes with :math:`\epsilon`, whose power 1 / tau it has.
    retrain : {"keep", "scratch", "rewind"}, default="keep"
        Weights with which the final training starts: the searched ones, new, or those with which
        the search started. With the latter two there are no gates any more.

    Notes
    -----
    ``field_scores_`` are averages of :math:`|x|` that forget a factor of e in every tenth of the
    search: fields that closed early come last. They rank fields more reliably than the last
    :math:`|x|` alone, for any number of fields to keep.

    Strength and learning rate are given as sums over all steps: with the public codes' values a
    step, gates cannot reach zero from 1 in a short search, or all do. Gates are divided by g(1),
    which for LPFS++ would otherwise start at 3.4.

    How x is trained is our own, after the public codes' Adam and SGD closed all gates or none,
    depending on the data. All of g happens around :math:`|x| = \sqrt{\epsilon}`; thresholds and
    learning rates therefore fall like :math:`\sqrt{\epsilon}`, or a step would end up longer than
    that. The slope of g changes there by orders of magnitude, which Adam's running scale follows
    too late; the gradient with respect to g(x) moves x instead, in the direction in which g rises
    (not at all where it is flat: a closed gate of LPFS). And all gates share one scale, as one
    scale per gate makes the noise of a useless field as strong as the pull of a useful one.

    Dropping closed fields is exact but for networks in which a vector of zeros acts: attention
    (AutoInt) and biases of cross layers (DCN, DCN-V2). A column with one value, and a relabelled
    copy of an earlier one, have no part in the search.

    References
    ----------
    .. [1] Guo, Y. et al. "LPFS: Learnable Polarizing Feature Selection for Click-Through Rate
       Prediction". https://arxiv.org/abs/2206.00267

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, feature_selection
    >>> X, y, truth = datasets.make_ctr(
    ...     4000, n_fields=4, pairs=[], informative_fields=[2], main_effect=2, random_state=0
    ... )
    >>> search = feature_selection.LPFS(n_kept=1)
    >>> model = CTRClassifier(network="fm", search=search, lr=0.01, max_epochs=3, random_state=0)
    >>> model.fit(X, y).selected_fields_
    ['f2']
    """

    supports_members = True
    _parameter_constraints = {
        "plus": ["boolean"],
        "n_kept": N_KEPT,
        "total_shrink": [Interval(Real, 0, None, closed="left")],
        "travel": [Interval(Real, 0, None, closed="neither")],
        "epsilon": [tuple, list],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "tau": [Interval(Real, 0, None, closed="neither")],
        "retrain": [StrOptions({"scratch", "rewind", "keep"})],
    }

    @stores_parameters
    def __init__(
        self,
        plus=True,
        n_kept="auto",
        total_shrink=1.2,
        travel=1.8,
        epsilon=(0.1, 1e-4),
        alpha=10.0,
        tau=2.0,
        retrain="keep",
    ):
        """Store the parameters."""

    def build(self, context):
        if len(self.epsilon) != 2 or min(self.epsilon) <= 0:
            raise ValueError(
                f"epsilon must be two positive numbers, first and last, got {self.epsilon!r}."
            )
        alpha = self.alpha if self.plus else 0.0
        return PolarisedGates(
            context, tuple(self.epsilon), alpha, self.tau, self.total_shrink, self.travel
        )

    def derive(self, module, context):
        x, usable = module.x.detach().cpu().numpy(), module.usable.cpu().numpy() > 0
        scores = with_unusable_last(module.recent.cpu().numpy().astype(float), usable)
        return {
            "fields": choose(scores, (x != 0) & usable, self.n_kept, context),
            "scores": scores.tolist(),
            "gates": module.gates().detach().cpu().numpy().astype(float).tolist(),
        }

    def check(self, architecture, context):
        super().check(architecture, context)
        check_numbers("gates", architecture, context.n_fields)

    def realise(self, architecture, context):
        if self.retrain != "keep":
            return None
        gates = [architecture["gates"][f] for f in architecture["fields"]]
        # A field that was closed and is kept by its rank starts open.
        return FixedGates([g or 1.0 for g in gates])
