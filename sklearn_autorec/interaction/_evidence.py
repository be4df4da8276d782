"""Whether parts of a searched network point towards the target on rows that nothing was trained
on.
"""

import torch

from ..engine import batches_of

CHANCE = 0.01  # probability that, on labels of noise, any of the candidates is kept
JUDGED_SHARE = 0.2  # of the training rows; they decide what is kept and are not trained on
JUDGED_CELLS = 2**21  # losses computed at a time


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
        Rows that nothing was trained on.
    shares_of : callable (batch) -> (logits (B, C), shares (B, P, C))
        The share of a candidate is its size times the derivative of the logits by it.
    n_cells : int
        Numbers that ``shares_of`` holds of a row.

    Returns
    -------
    Tensor of float64, shape (P,)
        0 where a candidate says nothing.
    """
    gains, start, mode = [], 0, network.training
    network.eval()
    try:
        for batch in batches_of(data, max(JUDGED_CELLS // max(n_cells, 1), 1)):
            logits, shares = shares_of(batch)
            if not start:
                alone = downhill(
                    loss, torch.zeros(len(data), logits.shape[1], device=logits.device), data.y
                )
                alone = alone - alone.mean(0)
            n_shares = shares.shape[1]
            without = (logits.detach().unsqueeze(1) - shares).flatten(0, 1)
            beside = downhill(loss, without, batch.y.repeat_interleave(n_shares, 0))
            beside, stop = beside.view(shares.shape), start + len(logits)
            gain = torch.stack(
                [(shares * d).sum(2) for d in (beside, alone[start:stop].unsqueeze(1))]
            )
            gains.append(
                (gain if batch.weight is None else gain * batch.weight.unsqueeze(1)).double()
            )
            start = stop
    finally:
        network.train(mode)
    gains = torch.cat(gains, 1)  # (2, n, P)
    error = gains.std(1) / len(data) ** 0.5
    return torch.where(error > 0, gains.mean(1) / error, 0.0).amin(0).cpu()
