"""What stands beside the network of an estimator, and training where rows are too few to hold any
out for good.
"""

import dataclasses

import numpy as np

from .._ensemble._companions import STATISTICS, WIDE, fit_mixture, possible_companions
from ..engine import forward_in_chunks, train, training_net
from ._settings import is_default

__all__ = ["cross_validated", "mixture_of", "wanted_companions"]


def wanted_companions(estimator, methods, target):
    """Names of the companions that the parameters ask for.

    Parameters
    ----------
    estimator : CTRClassifier or RatingRegressor
    methods : list of SearchMethod
    target : ClassTarget or RatingTarget

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If one is asked for that cannot be.
    """
    asked = {
        name: parameter
        for name, parameter, given in (
            (WIDE, f"wide={estimator.wide!r}", estimator.wide not in ("auto", None)),
            (
                STATISTICS,
                f"target_statistics={estimator.target_statistics!r}",
                estimator.target_statistics is True,
            ),
        )
        if given
    }
    several = target.n_outputs > 1
    drops = [method for method in methods if method.narrows]
    for parameter in asked.values():
        if several:
            raise ValueError(
                f"{parameter} needs two classes or ratings, y has {target.n_outputs} classes; "
                f"leave it at 'auto'."
            )
        if drops:
            raise ValueError(
                f"{parameter}: search={drops[0]!r} drops columns, which the part beside the "
                f"network would keep; "
                "leave it at 'auto'."
            )
    if several or drops:
        return []
    auto = is_default(estimator.network)
    automatic = {
        WIDE: auto and estimator.wide == "auto",
        STATISTICS: auto and estimator.target_statistics == "auto",
    }
    return [name for name in (WIDE, STATISTICS) if name in asked or automatic[name]]


def mixture_of(prepared, module, valid, outputs=None):
    """The companions of a trained network, and the weights of all.

    Parameters
    ----------
    prepared : Prepared
    module : nn.Module
        The network.
    valid : EncodedTensors or None
        The rows that are held out, which judge.
    outputs : float ndarray of shape (n_judging, C) or None
        Without ``valid``: what networks that have not seen the rows that judge give for them; None
        where no rows do, and all parts count the same.

    Returns
    -------
    Mixture or None
        None where the network predicts alone, as it does if no time is left. Of several processes
        the first makes it.
    """
    processes = prepared.plan.processes
    if processes is None:
        return _mixture(prepared, module, valid, outputs)
    cut = prepared.limit.cut

    def of_first():
        return _mixture(prepared, module, valid, outputs), cut

    mixture, cut[:] = processes.value_of_first(of_first)
    return mixture


def _mixture(prepared, module, valid, outputs):
    rows, split = prepared.rows, prepared.split
    fitted_on = rows if split.validation is None else split.kept
    names = possible_companions(prepared.companions, fitted_on, rows.target.is_class)
    if names and prepared.limit.is_over:
        prepared.limit.cut += names
        names = []
    if not names:
        return None
    if valid is not None:
        outputs = forward_in_chunks(module, valid).cpu().numpy()
    return fit_mixture(
        names,
        fitted_on,
        split.validation,
        split.parts,
        None if outputs is None else outputs[:, 0].astype(np.float64),
        logistic=rows.target.is_class,
        seed=prepared.seeds.companions,
    )


def cross_validated(prepared, start, deadlines):
    """Train a network without each part of the rows in turn.

    Parameters
    ----------
    prepared : Prepared
    start : callable () -> (nn.Module, nn.Module or None)
        Makes a network with its first weights, and a part in the loss slot.
    deadlines : iterator of float or None
        Of the trainings, see `TimeLimit.phases`.

    Returns
    -------
    outputs : ndarray of shape (n_judging, C)
        Of each row that judges by the network that has not seen it; None if the user stopped.
    n_epochs : int
        Mean of the best numbers of epochs.
    """
    rows, split, plan, progress = prepared.rows, prepared.split, prepared.plan, prepared.progress
    loss, outputs, best = rows.target.loss(), None, []
    for part in range(split.n_parts):
        kept, out = np.flatnonzero(split.parts != part), np.flatnonzero(split.parts == part)
        data = rows.take(kept).tensors(prepared.device)
        valid = rows.take(out).tensors(prepared.device)
        module, loss_part = start()
        plan = dataclasses.replace(plan, deadline=next(deadlines))
        net = training_net(module, loss, plan, loss_part)
        name = f"validate-{part + 1}"
        kept = None if prepared.checkpoint is None else (prepared.checkpoint, name)
        report = progress.begin(name, plan.epochs)
        result = train(net, data, plan, valid, report, checkpoint=kept)
        progress.end()
        if result.interrupted:
            return None, max(result.best_epoch, 1)
        if result.out_of_time:
            prepared.limit.cut.append(name)
        logits = forward_in_chunks(net.module_, valid).cpu().numpy()
        if outputs is None:
            outputs = np.zeros((len(rows), logits.shape[1]), np.float32)
        outputs[out] = logits
        best.append(result.best_epoch)
    return outputs[split.parts >= 0], max(round(float(np.mean(best))), 1)
