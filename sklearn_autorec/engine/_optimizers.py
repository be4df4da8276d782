"""Optimisers that torch does not have."""

import torch
from torch.optim import Optimizer

# Below these sizes a value no longer moves a prediction, but its squares and products are on their
# way into denormal numbers, on which a CPU is many times slower.
TINY_WEIGHT, TINY_MOMENT, TINY_SQUARE = 1e-15, 1e-25, 1e-30

AT_ONCE = 2048  # rows of a table that `RowAdam` moves at once


@torch.no_grad()
def flush_denormals(optimizer):
    """Set vanishing weights and Adam moments of decayed parameters to exact zero.

    L2 decay shrinks the rows of rare values for ever. Setting the processor's flush-to-zero mode
    would not do: the mode belongs to one thread, and torch's worker threads would not have it."""
    for group in optimizer.param_groups:
        if not group.get("weight_decay"):
            continue
        for p in group["params"]:
            if not p.requires_grad:  # held still
                continue
            state = optimizer.state.get(p, {})
            for tensor, tiny in (
                (p, TINY_WEIGHT),
                (state.get("exp_avg"), TINY_MOMENT),
                (state.get("exp_avg_sq"), TINY_SQUARE),
            ):
                if tensor is not None:
                    tensor.copy_(torch.nn.functional.hardshrink(tensor, tiny))


def _loss_of(closure):
    """What the argument of an optimiser's ``step`` says, if it is given."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


class LeanAdam(torch.optim.Adam):
    """`torch.optim.Adam` of dense tensors, with less around each step.

    State, arithmetic and bits are those of ``torch.optim.Adam(fused=True)``, whose own step sorts
    the tensors by device and type and checks each of them again, which in small networks takes
    longer than the arithmetic. Off the CPU, and where a tensor has no state yet, it takes that
    step.
    """

    def __init__(self, params, lr=1e-3, weight_decay=0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure=None):
        turns = []
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            states = [self.state.get(p) for p in params]
            plain = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in params)
            if closure is not None or not plain or not all(states):
                return super().step(closure)
            if params:
                turns.append((group, params, states))
        for group, params, states in turns:
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adam_(
                params,
                [p.grad for p in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )
        return None


def row_sums(grad):
    """Distinct rows (n,), rising, of a row-wise gradient, and its sums (n, d).

    What is added up already, as `nn.read_rows` gives it, is not sorted again: torch forgets on the
    way to a parameter that it is.
    """
    rows = grad._indices()[0]
    if bool((rows[1:] > rows[:-1]).all()):
        return rows, grad._values()
    grad = grad.coalesce()
    return grad.indices()[0], grad.values()


class RowUndo:
    """Rows of tensors as they were before a training that may fail; memory grows with the rows it
    touches.
    """

    def __init__(self):
        self.before, self.noted = [], {}

    def note(self, rows, *tensors):
        """Keep these rows of tensors of one length, unless they are kept already."""
        noted = self.noted.get(id(tensors[0]))
        if noted is None:
            noted = self.noted[id(tensors[0])] = torch.zeros(
                len(tensors[0]), dtype=torch.bool, device=rows.device
            )
        fresh = rows[~noted[rows]]
        self.before += [(tensor, fresh, tensor.index_select(0, fresh)) for tensor in tensors]
        noted[fresh] = True

    @torch.no_grad()
    def roll_back(self):
        """Bring the rows back; may be called again if it was interrupted."""
        for tensor, rows, values in self.before:
            tensor.index_copy_(0, rows, values)
        self.before, self.noted = [], {}


class RowAdam(Optimizer):
    """Adam for embedding tables with sparse gradients: only the rows of the batch are read or
    written.

    Moments of other rows stay as they are, and decay applies to touched rows only (lazy Adam); with
    every row in every batch it equals `torch.optim.Adam`.

    Parameters
    ----------
    params : iterable of Tensor (V, d)
    lr, betas, eps, weight_decay : as in `torch.optim.Adam`

    Attributes
    ----------
    undo : RowUndo or None
        Where to note moments before they change, while they are shared with a training that is
        kept.
    """

    undo = None

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )
        self._extremes = {}

    def __setstate__(self, state):
        super().__setstate__(state)
        self._extremes = {}

    def extremes(self):
        """Least and largest of all weights that were moved since this was asked last, a list of
        Tensors; NaN where one of them is NaN.
        """
        found = [t for pair in self._extremes.values() for t in pair]
        self._extremes = {}
        return found

    def _note_extremes(self, p, now):
        if not now.numel():
            return
        low, high = torch.aminmax(now)
        known = self._extremes.get(id(p))
        if known is not None:
            low, high = torch.minimum(low, known[0]), torch.maximum(high, known[1])
        self._extremes[id(p)] = low, high

    @torch.no_grad()
    def step(self, closure=None):
        loss = _loss_of(closure)
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                rows, g = row_sums(p.grad)
                state = self.state[p]
                if not state:
                    state["step"], state["exp_avg"], state["exp_avg_sq"] = (
                        0,
                        torch.zeros_like(p),
                        torch.zeros_like(p),
                    )
                state["step"] += 1
                if self.undo is not None:
                    self.undo.note(rows, state["exp_avg"], state["exp_avg_sq"])
                tensors = p, state["exp_avg"], state["exp_avg_sq"]
                n_steps = torch.full((), float(state["step"]), device=p.device)
                # What is taken out is written back before the processor's cache has lost its place.
                n = AT_ONCE if p.is_cpu else max(len(rows), 1)
                g = g.contiguous()  # the fused step reads memory as it lies
                for some, gradient in zip(rows.split(n), g.split(n), strict=True):
                    now, m, v = (t.index_select(0, some) for t in tensors)
                    torch._fused_adam_(
                        [now],
                        [gradient],
                        [m],
                        [v],
                        [],
                        [n_steps],
                        lr=group["lr"],
                        beta1=beta1,
                        beta2=beta2,
                        weight_decay=group["weight_decay"],
                        eps=group["eps"],
                        amsgrad=False,
                        maximize=False,
                    )
                    for tensor, moved in zip(tensors, (now, m, v), strict=True):
                        tensor.index_copy_(0, some, moved)
                    self._note_extremes(p, now)
        return loss


class GRDA(Optimizer):
    r"""Generalised regularised dual averaging: gradient descent whose iterates are shrunk towards
    exact zero.

    With v_0 the initial value, step t (from 1) of T planned ones and learning rate g:

    .. math:: v_t = v_{t-1} - g \nabla, \quad
              \tau_t = \tau_T (t / T)^{\mu}, \quad
              w_t = \mathrm{sign}(v_t) \max(|v_t| - \tau_t, 0)

    The original writes :math:`\tau_t = c\, g^{1/2 + \mu} t^{\mu}`. At a fixed c the threshold then
    depends on how many steps happen to be run, and a small data set prunes nothing; here the final
    threshold is the parameter, c = threshold / (g^(1/2 + mu) T^mu).

    Parameters
    ----------
    params : iterable of Tensor
    lr : float
        g, the learning rate.
    threshold : float
        Soft threshold reached at the last planned step; 0 is plain gradient descent.
    mu : float in (0.5, 1)
        Growth exponent of the threshold.
    n_steps : int
        T, planned steps. The threshold stays at its final value after them.

    References
    ----------
    .. [1] Chao, S.-K. et al. "Directional Pruning of Deep Neural Networks", NeurIPS 2020, algorithm
       1. https://arxiv.org/abs/2006.09358
    """

    def __init__(self, params, lr, threshold, mu, n_steps):
        super().__init__(
            params, {"lr": lr, "threshold": threshold, "mu": mu, "n_steps": max(int(n_steps), 1)}
        )

    @torch.no_grad()
    def step(self, closure=None):
        loss = _loss_of(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"], state["v"] = 0, p.detach().clone()
                state["step"] += 1
                state["v"].sub_(p.grad, alpha=group["lr"])
                threshold = (
                    group["threshold"] * min(state["step"] / group["n_steps"], 1.0) ** group["mu"]
                )
                p.copy_(torch.nn.functional.softshrink(state["v"], threshold))
        return loss
