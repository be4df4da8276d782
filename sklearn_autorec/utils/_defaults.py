"""Parameters of a component that is named or left out: ``set_params(network__hidden_units=...)`` on
a default.
"""


class DefaultComponents:
    """Mixin of estimators some of whose parameters are components that may be given by name, or
    left at None.

    ``set_params`` with a parameter of such a component first makes the component: of
    ``network="deepfm"`` with ``network__hidden_units=(8,)`` it makes ``DeepFM(hidden_units=(8,))``.
    So grids reach what the constructor was not given. Nothing is made as long as nobody asks for
    it."""

    # Methods that make a component from a parameter's value, by name of the parameter.
    _component_makers: dict = {}

    def set_params(self, **params):
        """Set parameters, also those of components: ``network__hidden_units``,
        ``encoder__min_frequency``.

        A component that is given by its name, or is None, is made first.

        Returns
        -------
        self

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
        known = self.get_params(deep=False) if nested else {}
        made = {}
        for name, rest in nested.items():
            value = params.get(name, known.get(name))
            if name not in known or (hasattr(value, "set_params") and not isinstance(value, type)):
                continue
            if name not in self._component_makers:
                raise ValueError(
                    f"{name}={value!r:.100} has no parameter {rest!r}, as it is no object with "
                    f"parameters; set {name} to one."
                )
            made[name] = getattr(self, self._component_makers[name])(value, rest)
        return super().set_params(**{**params, **made})
