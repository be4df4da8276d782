"""What stands beside the network of an estimator, and training where rows are too few to hold any
out for good.
"""

import dataclasses

import numpy as np

from .._ensemble._companions import STATISTICS, WIDE, fit_mixture, possible_companions
from ..engine import forward_in_chunks, train, training_net
from ._settings import is_default

__all__ = ["Blending"]


class Blending:
    """Mixin of `FieldEstimator`: companions of the network, and the rows that weigh them all."""

    def _wanted_companions(self, network, methods, target):
        """Names of the companions that the parameters ask for, and whether by name.

        Raises
        ------
        ValueError
            If one is asked for that cannot be.
        """
        asked = {
            name: parameter
            for name, parameter, given in (
                (WIDE, f"wide={self.wide!r}", self.wide not in ("auto", None)),
                (
                    STATISTICS,
                    f"target_statistics={self.target_statistics!r}",
                    self.target_statistics is True,
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
        auto = is_default(self.network)
        automatic = {
            WIDE: auto and self.wide == "auto",
            STATISTICS: auto and self.target_statistics == "auto",
        }
        return [name for name in (WIDE, STATISTICS) if name in asked or automatic[name]]

    def _mixture(self, names, rows, split, outputs, seeds):
        """The companions and all weights, or None where the network predicts alone.

        ``outputs`` are logits (n_judging, 1) of the network for the rows that judge, or None.
        """
        logistic = rows.target.is_class
        fitted_on = rows if split.validation is None else split.kept
        names = possible_companions(names, fitted_on, logistic)
        if not names:
            return None
        judged = None if outputs is None else outputs[:, 0].astype(np.float64)
        return fit_mixture(
            names,
            fitted_on,
            split.validation,
            split.parts,
            judged,
            logistic=logistic,
            seed=seeds.companions,
        )

    def _cross_validated(self, start, loss, rows, split, plan, device, progress):
        """Train a network without each part of the rows in turn.

        Returns
        -------
        outputs : ndarray of shape (n_rows, C)
            Of each row by the network that has not seen it; None if the user stopped.
        n_epochs : int
            Mean of the best numbers of epochs.
        """
        outputs, best = None, []
        for part in range(split.n_parts):
            kept, out = np.flatnonzero(split.parts != part), np.flatnonzero(split.parts == part)
            data, valid = (
                self._tensors(rows.take(kept), device),
                self._tensors(rows.take(out), device),
            )
            module, loss_part = start()
            net = training_net(module, loss, plan, loss_part)
            name = f"validate-{part + 1}"
            result = train(net, data, plan, valid, progress.begin(name, plan.epochs))
            progress.end()
            if result.interrupted:
                return None, max(result.best_epoch, 1)
            logits = forward_in_chunks(net.module_, valid).cpu().numpy()
            if outputs is None:
                outputs = np.zeros((len(rows), logits.shape[1]), np.float32)
            outputs[out] = logits
            best.append(result.best_epoch)
        return outputs[split.parts >= 0], max(round(float(np.mean(best))), 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Which rows are trained on and which judge.

    Parameters
    ----------
    kept : Rows
        Which the network (the first of several) is trained on.
    held_out : Rows or None
        Which say when to stop; None where nothing does, or where all rows do in turn.
    validation : Rows or None
        ``held_out``, if they came from the user and are never trained on.
    parts : int ndarray of shape (n_rows,) or None
        Number of the part in which each row is held out, -1 where never; None where the user gave
        rows, or none are held out.
    n_parts : int
    refit : bool
        Whether a network is trained without each part, for outputs and a number of epochs, and then
        one on all rows.
    """

    kept: object
    held_out: object = None
    validation: object = None
    parts: np.ndarray | None = None
    n_parts: int = 0
    refit: bool = False
