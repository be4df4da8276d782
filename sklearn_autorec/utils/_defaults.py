"""Parameters of a component that is named or left out: ``set_params(network__hidden_units=...)`` on
a default.
"""

from sklearn.base import BaseEstimator

__all__ = ["ComponentEstimator", "with_components"]


def with_components(estimator, params, makers):
    """Parameters for ``set_params``, with a component for each whose own parameters are among them.

    Of ``network="deepfm"`` with ``network__hidden_units=(8,)`` it makes ``DeepFM()``, whose
    ``hidden_units`` scikit-learn then sets. So grids reach what the constructor was not given.
    Nothing is made as long as nobody asks for it.

    Parameters
    ----------
    estimator : BaseEstimator
    params : dict
        Of ``set_params``.
    makers : dict of str to callable (value, parameter) -> object
        By name of a parameter: makes a component from its value, such as a name or None;
        ``parameter`` is the one of the component that is to be set.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        For a parameter of what does not exist, saying what to set instead.
    """
    nested = {}
    for key in params:
        name, separator, rest = key.partition("__")
        if separator:
            nested.setdefault(name, rest)
    known = estimator.get_params(deep=False) if nested else {}
    made = {}
    for name, rest in nested.items():
        value = params.get(name, known.get(name))
        if name not in known or (hasattr(value, "set_params") and not isinstance(value, type)):
            continue
        if name not in makers:
            raise ValueError(
                f"{name}={value!r:.100} has no parameter {rest!r}, as it is no object with "
                f"parameters; set {name} to one."
            )
        made[name] = makers[name](value, rest)
    return {**params, **made}


class ComponentEstimator(BaseEstimator):
    """Base of estimators with components that may be named or left out; ``_makers``, by name of the
    parameter, say what then stands for them, as in `with_components`.
    """

    _makers: dict = {}

    def set_params(self, **params):
        """Set parameters, also those of components, such as ``network__hidden_units`` and
        ``encoder__min_frequency``.

        A component that is given by its name, or is None, is made first: of ``network="deepfm"``
        with ``network__hidden_units=(8,)`` it makes ``DeepFM(hidden_units=(8,))``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a parameter of what does not exist, saying what to set instead.
        """
        return super().set_params(**with_components(self, params, self._makers))
