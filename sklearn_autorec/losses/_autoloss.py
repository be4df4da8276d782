"""AutoLoss: for every row a choice among losses."""

import math
from numbers import Integral

import torch
from torch import nn

from ..base import SearchMethod
from ..base._constraints import constraints_of
from ..engine import ArchSchedule, MovedByAdam
from ..nn import annealed, check_temperatures, gumbel_noise, gumbel_softmax, linear
from ..nn._relaxed import own_generator
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._candidates import candidate_losses, controller_inputs

MOMENTUM = 0.05  # of running means


class MixedLoss(nn.Module):
    """Candidate losses, each brought to the slope of the reference, mixed by weights of every row;
    logits (B, C), y (B,) -> (B,).

    The slope of a loss is the running mean, over rows, of the length of its gradient by the logits.

    Parameters
    ----------
    losses : dict of str to callable
    reference : nn.Module
    """

    def __init__(self, losses, reference):
        super().__init__()
        self.losses, self.reference = losses, reference
        n = len(losses)
        self.register_buffer("slopes", torch.ones(n + 1))  # the last is the reference's
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("shares", torch.full((n,), 1 / n))
        # Of the first forward pass of a step; the probes of an unrolled gradient leave no trace.
        self.seen = None

    def weights(self, logits, y):
        """Weights of the losses for every row, (B, K)."""
        raise NotImplementedError

    def set_progress(self, t):
        self.seen = None

    def forward(self, logits, y):
        values = torch.stack([loss(logits, y) for loss in self.losses.values()], 1)
        weights = self.weights(logits.detach(), y)
        if self.seen is None:
            self.seen = self.slopes_of(logits, y), weights.detach().mean(0)
        slopes = self.slopes if self.n_steps > 0 else self.seen[0]
        return (weights * values * (slopes[-1] / slopes[:-1].clamp(min=1e-8))).sum(1)

    def slopes_of(self, logits, y):
        """Mean length of the gradient of each loss by the logits, (K + 1,)."""
        with torch.enable_grad():
            logits = logits.detach().requires_grad_()
            gradients = [
                torch.autograd.grad(loss(logits, y).sum(), logits)[0]
                for loss in (*self.losses.values(), self.reference)
            ]
        return torch.stack([gradient.norm(dim=1).mean() for gradient in gradients])

    @torch.no_grad()
    def after_step(self):
        """Move the running means by this step's batch."""
        if self.seen is None:
            return
        slopes, shares = self.seen
        if self.n_steps == 0:
            self.slopes.copy_(slopes)
        self.slopes.lerp_(slopes, MOMENTUM)
        self.shares.lerp_(shares, MOMENTUM)
        self.n_steps += 1
        self.seen = None


class ControlledLoss(MovedByAdam, MixedLoss):
    """The mixture of the search: weights drawn for every row by a controller that is trained."""

    def __init__(self, losses, context, hidden_units, temperatures, schedule, arch_lr):
        super().__init__(losses, context.reference_loss)
        width = 2 * context.n_outputs
        self.hidden = linear(width, hidden_units, context.generator)
        self.out = linear(hidden_units, len(losses), context.generator)
        nn.init.zeros_(self.out.weight)  # all losses alike
        self.arch_schedule, self.arch_lr, self.temperatures = schedule, arch_lr, temperatures
        self.temperature = temperatures[0]
        self.generator = own_generator(context.generator)
        self.seed = 0

    def arch_parameters(self):
        return [*self.hidden.parameters(), *self.out.parameters()]

    def set_progress(self, t):
        """Cool down, and draw the seed of this step's noise, which is that of its probes too."""
        super().set_progress(t)
        self.temperature = annealed(*self.temperatures, t)
        self.seed = int(torch.randint(2**62, (), generator=self.generator))

    def weights(self, logits, y):
        inputs = controller_inputs(logits, y, self.reference)
        scores = self.out(torch.tanh(self.hidden(inputs)))
        noise = gumbel_noise(scores.shape, torch.Generator().manual_seed(self.seed))
        return gumbel_softmax(scores, self.temperature, noise.to(scores.device))

    def summary(self):
        shares = self.shares.tolist()
        return {f"share_{name}": share for name, share in zip(self.losses, shares, strict=True)}


class FoundLoss(MixedLoss):
    """The mixture by a controller that rests, without noise.

    Parameters
    ----------
    losses, reference
        See `MixedLoss`.
    controller : dict of str to list
        Weights of its two layers.
    """

    def __init__(self, losses, reference, controller):
        super().__init__(losses, reference)
        # In no state: a search never hands over weights to a controller that is found already.
        for name, values in controller.items():
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def weights(self, logits, y):
        inputs = controller_inputs(logits, y, self.reference)
        hidden = torch.tanh(inputs @ self.hidden_weight.T + self.hidden_bias)
        return torch.softmax(hidden @ self.out_weight.T + self.out_bias, 1)


class AutoLoss(SearchMethod):
    r"""Choose for every row the loss by which it trains the network, among several (AutoLoss).

    A controller reads a row's label and prediction and gives probabilities of the K candidate
    losses; Gumbel noise makes nearly a choice of them:

    .. math:: L = \sum_n \sum_k o_{nk} \, \ell_k(y_n, \hat y_n) \frac{m}{m_k}, \qquad
              o_n = \mathrm{softmax} \left( (\log g(y_n, \hat y_n) + \mathrm{noise}) / \tau \right)

    L trains the weights. The controller is trained on rows of its own, by the estimator's own loss
    after a step of the weights along the gradient of L (the unrolled gradient of `ArchSchedule`).
    The network is then trained anew by the mixture that was found, with the controller at rest and
    without noise.

    It searches the slot "loss", which every network has. Predictions need nothing of it.

    Parameters
    ----------
    candidates : "auto" or tuple of str, default="auto"
        For classes "cross_entropy", "focal", "hinge", "smoothed" (cross entropy with a tenth of the
        label spread over all classes) and "squared" (of probabilities); "auto" is the first four.
        For ratings "squared", "absolute", "huber" and "log_cosh"; "auto" is the first three.
    hidden_units : int, default=16
        Hidden units of the controller, whose activation is tanh.
    arch_lr : float, default=0.02
        Adam's learning rate of the controller.
    arch_every : int, default=2
        Weight steps per step of the controller.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows that train the controller, and not the weights.
    warmup : float in [0, 1), default=0.1
        Share of the steps before the controller begins to move.
    temperature : tuple of (float, float), default=(1.0, 0.5)
        First and last :math:`\tau`, falling with the share of steps done.
    retrain : {"scratch", "rewind", "keep"}, default="scratch"
        Weights with which the final training starts.

    Notes
    -----
    The rows of the controller are judged by the estimator's own loss, not by the mixture: by that
    the controller would only learn which loss is the smallest number. Since this loss depends on
    the controller through a step of the weights alone, there is no first-order form.

    Losses are divided by their running means :math:`m_k` and multiplied by that of the estimator's
    own loss, :math:`m`: otherwise they would differ in step size, and the search would choose that.

    The controller sees the label, so that a mixture weighs classes unlike: probabilities are not
    calibrated, even if each candidate's would be (those of the hinge loss never are). Look at the
    log loss beside the AUC; ``sklearn.calibration.CalibratedClassifierCV`` mends it. Histories have
    the estimator's own loss as ``train_loss``, the mixture as ``slot_loss``, and in
    ``search_history_`` the mean weight of each loss, ``share_focal`` for instance.

    The Kullback-Leibler divergence from a label is its cross entropy, so that "smoothed" stands in
    its place. Losses and layers of the controller are not known of the paper's experiments, whose
    code is not public.

    References
    ----------
    .. [1] Zhao, X. et al. "AutoLoss: Automated Loss Function Search in Recommendations", KDD 2021.
       https://arxiv.org/abs/2106.06713

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, losses
    >>> X, y, _ = datasets.make_ctr(1000, n_fields=3, cardinality=5, pairs=[(0, 1)], random_state=0)
    >>> model = CTRClassifier(network="fm", search=losses.AutoLoss(), max_epochs=2, random_state=0)
    >>> model.fit(X, y).architecture_["loss"]["candidates"]
    ['cross_entropy', 'focal', 'hinge', 'smoothed']
    """

    slot = "loss"
    _parameter_constraints = {
        "candidates": [tuple, list, StrOptions({"auto"})],
        "hidden_units": [Interval(Integral, 1, None, closed="left")],
        **constraints_of(
            "arch_lr", "arch_every", "search_fraction", "warmup", "temperature", "retrain"
        ),
    }

    @stores_parameters
    def __init__(
        self,
        candidates="auto",
        hidden_units=16,
        arch_lr=0.02,
        arch_every=2,
        search_fraction=0.2,
        warmup=0.1,
        temperature=(1.0, 0.5),
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        temperatures = check_temperatures(self.temperature)
        losses = candidate_losses(self.candidates, context.reference_loss)
        schedule = ArchSchedule("unrolled", self.arch_every, self.search_fraction, self.warmup)
        return ControlledLoss(
            losses, context, self.hidden_units, temperatures, schedule, self.arch_lr
        )

    def derive(self, module, context):
        layers = {"hidden": module.hidden, "out": module.out}
        return {
            "candidates": list(module.losses),
            "shares": module.shares.tolist(),
            "controller": {
                f"{name}_{kind}": getattr(layer, kind).detach().cpu().tolist()
                for name, layer in layers.items()
                for kind in ("weight", "bias")
            },
        }

    def check(self, architecture, context):
        names = architecture.get("candidates")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"candidates must be a list of names, got {names!r:.200}.")
        n = len(candidate_losses(names, context.reference_loss))
        shapes = {
            "hidden_weight": (self.hidden_units, 2 * context.n_outputs),
            "hidden_bias": (self.hidden_units,),
            "out_weight": (n, self.hidden_units),
            "out_bias": (n,),
        }
        controller = architecture.get("controller")
        if not isinstance(controller, dict) or controller.keys() != shapes.keys():
            raise ValueError(
                f"controller must be a dict of {list(shapes)}, got {controller!r:.200}."
            )
        for name, shape in shapes.items():
            if not _is_array(controller[name], shape):
                raise ValueError(
                    f"{name} of the controller must be finite floats of shape {shape}, got "
                    f"{controller[name]!r:.200}."
                )

    def realise(self, architecture, context):
        losses = candidate_losses(architecture["candidates"], context.reference_loss)
        return FoundLoss(losses, context.reference_loss, architecture["controller"])


def _is_array(values, shape):
    """Whether values are nested lists of finite floats of this shape."""
    if not shape:
        return type(values) is float and math.isfinite(values)
    return (
        isinstance(values, list)
        and len(values) == shape[0]
        and all(_is_array(own, shape[1:]) for own in values)
    )
