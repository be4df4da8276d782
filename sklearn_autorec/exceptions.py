"""Errors and warnings that users may want to catch by name."""

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "CheckpointError",
    "ConvergenceWarning",
    "DataTypeDriftWarning",
    "DoubtfulKindWarning",
    "ModelFileError",
    "NonFiniteLossError",
    "NonFinitePredictionError",
    "ProcessLostError",
    "SingleClassWarning",
    "SuspiciousColumnWarning",
    "UnknownCategoryWarning",
]


class NonFiniteLossError(ArithmeticError, ValueError):
    """The training loss became NaN or infinite before a single usable epoch was finished."""


class DataTypeDriftWarning(UserWarning):
    """A column has another kind of value (say strings) than the one seen in ``fit`` (say
    integers).
    """


class DoubtfulKindWarning(UserWarning):
    """Columns of whole numbers may be ids or numbers, and nothing about them tells which."""


class SingleClassWarning(UserWarning):
    """All labels of the training table are the same: nothing was trained, every row gets this
    label.
    """


class SuspiciousColumnWarning(UserWarning):
    """A column of the training table was probably meant otherwise than it is read, such as ids that
    became floats.
    """


class UnknownCategoryWarning(UserWarning):
    """Most of the values of a column were never seen in ``fit``."""


class ModelFileError(ValueError):
    """A file is no model file, or one that is damaged, of another version or not to be trusted."""


class CheckpointError(OSError, ValueError):
    """A checkpoint of a search or a fit cannot be used: damaged, full, not readable, in use, or of
    another one.
    """


class NonFinitePredictionError(ArithmeticError, ValueError):
    """A model read from a file has finite weights so large that its predictions are not finite."""


class ProcessLostError(RuntimeError):
    """A process of a distributed fit has ended, cannot be reached, or has failed: the others cannot
    go on without it.
    """
