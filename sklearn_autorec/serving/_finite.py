"""Networks from files say so when their output is not finite: finite weights can be too large to
multiply.
"""

import math

from ..exceptions import NonFinitePredictionError


def watch(module):
    """Raise NonFinitePredictionError in each later forward pass whose output is NaN or infinite,
    until training begins.

    Weights are checked one by one when they are read, and the network is tried out, but not with
    every row that may come."""
    module.register_forward_hook(_check)


def unwatched(module):
    """The module without the hook of `watch`, for those who trace it. Changed in place."""
    for key, hook in list(module._forward_hooks.items()):
        if hook is _check:
            del module._forward_hooks[key]
    return module


def _check(module, inputs, output):
    # Its weights are no longer those of the file, and training has its own checks.
    if module.training:
        unwatched(module)
    elif not math.isfinite((output if output.numel() == 1 else output.sum()).item()) and not bool(
        output.isfinite().all()
    ):
        # Not how many: the module is given blocks that are filled up with rows of zeros.
        raise NonFinitePredictionError(
            "The predictions of some rows are not finite: the weights in the file of this model "
            "are "
            "finite, but too large. load(..., allow_nonfinite=True) turns this check off."
        )
