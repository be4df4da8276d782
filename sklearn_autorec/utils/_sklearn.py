"""The only door to scikit-learn names that are private or newer than the oldest supported release."""

from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_parameter_constraints

__all__ = ["Interval", "Options", "StrOptions", "validate_parameters"]


def validate_parameters(estimator):
    """Check an estimator's constructor parameters against its ``_parameter_constraints``.

    Raises ``sklearn.utils._param_validation.InvalidParameterError`` (a ``ValueError``) that names the
    parameter, what is allowed and the value got.
    """
    validate_parameter_constraints(
        estimator._parameter_constraints, estimator.get_params(deep=False), caller_name=type(estimator).__name__
    )
