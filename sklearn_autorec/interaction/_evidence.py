"""Whether parts of a searched network say anything about rows that nothing was trained on."""

from contextlib import contextmanager

import torch

from ..engine import batches_of

CHANCE = 0.01  # probability that, on labels of noise, any of the candidates is kept
JUDGED_SHARE = 0.2  # of the training rows; they decide what is kept and are not trained on
JUDGED_CELLS = 2**21  # losses computed at a time


def slope_evidence(network, loss, data, shares_of, n_cells):
    """How fast the loss of unseen rows falls as each candidate is faded in, in standard errors.

    The logits without a candidate are the logits less its share in them: exactly without it where
    candidates are added to the logit (FM, DeepFM), to first order where a perceptron reads them
    (IPNN). From there the slope of the loss is taken, not the loss with the whole candidate:
    embeddings fitted to few rows are too loud, and a candidate may say the right thing and yet cost
    loss until the final training stops in time. The slope is taken twice, beside all the rest of
    the network and from a constant prediction; the smaller evidence counts. What the rest has
    fitted of noise leaves errors that overfitted candidates have in common; a constant leaves none.

    Parameters
    ----------
    network : nn.Module
        Its mode is left as it was.
    loss : callable (logits (B, C), y) -> (B,)
    data : EncodedTensors
        The rows that judge, one or more.
    shares_of : callable (batch) -> (logits (B, C), shares (B, P, C))
        The share of a candidate is its size times the derivative of the logits by it.
    n_cells : int
        Numbers that ``shares_of`` holds of a row.

    Returns
    -------
    float64 Tensor (P,)
        t statistics; 0 where a candidate does not vary.
    """
    gains, start = [], 0
    for batch in judging_batches(network, data, n_cells):
        logits, shares = shares_of(batch)
        logits = logits.detach()
        if not start:
            nothing = torch.zeros(len(data), logits.shape[1], device=logits.device)
            alone = downhill(loss, nothing, data.y)
            alone = alone - alone.mean(0)
        without = (logits.unsqueeze(1) - shares).flatten(0, 1)
        beside = downhill(loss, without, batch.y.repeat_interleave(shares.shape[1], 0)).view(
            shares.shape
        )
        stop = start + len(logits)
        gain = torch.stack([(shares * d).sum(2) for d in (beside, alone[start:stop].unsqueeze(1))])
        gains.append((gain if batch.weight is None else gain * batch.weight.unsqueeze(1)).double())
        start = stop
    gains = torch.cat(gains, 1)  # (2, n, P)
    error = gains.std(1, correction=min(len(data) - 1, 1)) / len(data) ** 0.5
    return torch.where(error > 0, gains.mean(1) / error, 0.0).amin(0).cpu()


def fading_evidence(part, network, loss, data, columns=None):
    """`slope_evidence` of the features (B, P) that a part in the interaction slot gives.

    Parameters
    ----------
    part : nn.Module
        In the interaction slot.
    network, loss, data
        See `slope_evidence`.
    columns : slice or None, default=None
        Features that are faded in together, as one; None is each by itself.

    Returns
    -------
    float64 Tensor (P,), or (1,) with ``columns``
    """
    with cut_behind(part) as seen:

        def shares_of(batch):
            logits = network(**batch.inputs)
            shares = seen[0].detach().unsqueeze(2) * slopes(logits, seen[0])
            if columns is not None:
                shares = shares[:, columns].sum(1, keepdim=True)
            return logits, shares

        return slope_evidence(network, loss, data, shares_of, part.out_dim)


def mean_slopes(part, network, data):
    """Mean derivatives of the logits by the features of the interaction slot.

    They are 1 where features are added to the logit, as in FM and DeepFM. Parameters as of
    `fading_evidence`.

    Returns
    -------
    float64 Tensor (P, C)
    """
    total = 0.0
    with cut_behind(part) as seen:
        for batch in judging_batches(network, data, part.out_dim):
            logits = network(**batch.inputs)
            total = total + slopes(logits, seen[0]).double().sum(0)
    return (total / len(data)).cpu()


def share_spread(part, network, data):
    """How much what each feature of the interaction slot adds to the logits varies over rows.

    Parameters as of `fading_evidence`.

    Returns
    -------
    float64 Tensor (P,)
        Standard deviations, of several outputs the root of the sum of their squares.
    """
    sums, squares = 0.0, 0.0
    with cut_behind(part) as seen:
        for batch in judging_batches(network, data, part.out_dim):
            logits = network(**batch.inputs)
            shares = (seen[0].detach().unsqueeze(2) * slopes(logits, seen[0])).double()
            sums, squares = sums + shares.sum(0), squares + shares.square().sum(0)
    variance = (squares / len(data) - (sums / len(data)).square()).clamp(min=0)
    return variance.sum(1).sqrt().cpu()


@contextmanager
def cut_behind(part):
    """Derivatives go back to what the part gives and no further; the list holds that.

    The part itself runs without them.
    """
    seen, recorded = [], torch.is_grad_enabled()

    def begin(module, args):
        torch.set_grad_enabled(False)

    def cut(module, args, out):
        torch.set_grad_enabled(True)
        seen[:] = [out.detach().requires_grad_()]
        return seen[0]

    handles = [part.register_forward_pre_hook(begin), part.register_forward_hook(cut)]
    try:
        yield seen
    finally:
        torch.set_grad_enabled(recorded)
        for handle in handles:
            handle.remove()


def judging_batches(network, data, n_cells):
    """Batches of the rows that judge, while the network is in evaluation mode."""
    mode = network.training
    network.eval()
    try:
        yield from batches_of(data, max(JUDGED_CELLS // max(n_cells, 1), 1))
    finally:
        network.train(mode)


def slopes(logits, of):
    """Derivatives of the logits of every row by numbers of the same row; (B, C), (B, P) ->
    (B, P, C).
    """
    return torch.stack(
        [
            torch.autograd.grad(logits[:, c].sum(), of, retain_graph=True)[0]
            for c in range(logits.shape[1])
        ],
        2,
    )


def downhill(loss, logits, y):
    """How fast the loss of every row falls with its logits, (B, C)."""
    logits = logits.detach().requires_grad_()
    return -torch.autograd.grad(loss(logits, y).sum(), logits)[0]
