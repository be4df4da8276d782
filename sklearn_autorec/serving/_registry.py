"""The classes that a file may name. Files are never asked which module to import."""

import warnings

from .._registry import HOME, METHODS, NETWORK_CLASSES, public_name
from ..estimators import CTRClassifier, RatingRegressor
from ..exceptions import ModelFileError
from ..feature_crossing import AEFE, GLIDER, AutoCross, FieldCrosser, TargetStatistics
from ..feature_selection import FieldSelector
from ..feature_selection._subsets import SUBSET_SELECTORS
from ..linear_model import CrossedLinearClassifier, CrossedLinearRegressor
from ..preprocessing import FieldEncoder
from ..utils._sklearn import BaseSearchCV, validate_parameters
from ._aefe import aefe_state, restore_aefe
from ._crossing import crosser_state, restore_crosser, restore_search, search_state
from ._encoder import encoder_state, restore_encoder
from ._linear import linear_state, restore_linear
from ._model import model_state, restore_model
from ._nodes import at, refuse
from ._selecting import (
    glider_state,
    restore_glider,
    restore_selector,
    restore_subsets,
    selector_state,
    subsets_state,
)
from ._statistics import restore_target_statistics, target_statistics_state
from ._steps import STEPS, check_parameters, names_of_step, restore_step, step_state

# Left behind in a saved model: what belongs to a running fit, and scikit-learn's note of its
# version.
TRANSIENT = {
    "_stream",
    "_live_search",
    "_trained_tables",
    "_rare",
    "_skl_callbacks",
    "_parent_callback_ctx",
    "_sklearn_version",
}

# Transformers and linear models of this package: what tells that one is fitted, and functions from
# its attributes to values and back.
TRANSFORMERS: dict = {
    FieldEncoder: ("_derived", encoder_state, restore_encoder),
    FieldCrosser: ("_combinations", crosser_state, restore_crosser),
    AutoCross: ("crosser_", search_state, restore_search),
    CrossedLinearClassifier: ("model_", linear_state, restore_linear),
    CrossedLinearRegressor: ("model_", linear_state, restore_linear),
    TargetStatistics: ("_statistics", target_statistics_state, restore_target_statistics),
    GLIDER: ("crosser_", glider_state, restore_glider),
    AEFE: ("_statistics", aefe_state, restore_aefe),
    FieldSelector: ("support_", selector_state, restore_selector),
    **dict.fromkeys(SUBSET_SELECTORS, ("support_", subsets_state, restore_subsets)),
}

# What to save of a search whose parameters cannot be saved.
_COLUMNS = "Or save a ColumnTransformer that passes the kept columns, those of get_support()."
INSTEAD = {
    GLIDER: "Or save the GLIDER's crosser_, which transforms as it does.",
    **dict.fromkeys(SUBSET_SELECTORS, _COLUMNS),
}

# Parameters that had other names when files were written.
_RENAMED = {(public_name(FieldEncoder), "share_vocabulary"): "shared_vocabularies"}

OUTPUT = "_sklearn_output_config"  # where set_output leaves its choice


class Registry:
    """Known classes by name: estimators, networks and search methods of this package, steps of
    scikit-learn.
    """

    def __init__(self):
        self.components = {*NETWORK_CLASSES.own().values(), *METHODS.own().values()}
        classes = [*TRANSFORMERS, *self.components, *STEPS]
        self.classes = {public_name(c): c for c in classes}
        self.classes |= {f"{HOME}.{c.__name__}": c for c in (CTRClassifier, RatingRegressor)}
        self.names = {c: name for name, c in self.classes.items()}
        self.steps_read = set()  # names of scikit-learn's classes whose state a file gave

    def describe(self, value, writer, where):
        """Class name, parameters and fitted state of an object as nodes.

        Raises
        ------
        TypeError
            If its class is not known, or it holds what cannot be saved.
        """
        self.check_known(value, where)
        cls = type(value)
        if cls in STEPS:
            check_parameters(value)
        params = value.get_params(deep=False)
        left_out = getattr(value, "fit_only", ())  # of methods, see SearchMethod
        stored = params.keys() - {*left_out}
        code = [name for name in left_out if callable(params.get(name))]
        if cls in (CTRClassifier, RatingRegressor) and code:
            told = ", ".join(f"{name}={params[name]!r:.100}" for name in code)
            warnings.warn(
                f"{where}: {told} is code, which model files do not hold; the loaded model "
                f"predicts the same, but would train by its defaults.",
                UserWarning,
                stacklevel=2,
            )
        state = self._state(value)
        output = getattr(value, OUTPUT, {"transform": None})["transform"]
        odd = sorted(
            set(vars(value)) - set(params) - TRANSIENT - {OUTPUT} - self._fitted_names(value)
        )
        if odd:
            raise TypeError(f"{where}, {value!r:.200}, has attributes that cannot be saved: {odd}.")
        try:
            nodes = {
                name: writer.node(v, f"{where}, {cls.__name__}.{name}")
                for name, v in params.items()
                if name in stored
            }
        except TypeError as error:
            if cls not in INSTEAD:
                raise
            raise TypeError(f"{error} {INSTEAD[cls]}") from error
        return {
            "class": self.names[cls],
            "output": output,
            "params": nodes,
            "state": None
            if state is None
            else {
                name: writer.node(v, f"{where}, {cls.__name__}.{name}") for name, v in state.items()
            },
        }

    def check_known(self, value, where):
        """Raise TypeError for an object of a class that files may not hold."""
        cls = type(value)
        if isinstance(value, BaseSearchCV):
            raise TypeError(
                f"{where} is a {cls.__name__}, a search, which is not saved: save its "
                f"best_estimator_."
            )
        if cls not in self.names:
            steps = ", ".join(sorted(c.__name__ for c in STEPS))
            raise TypeError(
                f"{where} is {value!r:.200} of class {cls.__module__}.{cls.__name__}, which "
                f"cannot be saved. Allowed are "
                f"plain values, arrays, CTRClassifier, RatingRegressor, "
                f"{', '.join(c.__name__ for c in TRANSFORMERS)}, networks "
                f"and search methods of sklearn_autorec, and of scikit-learn {steps}."
            )

    def _state(self, value):
        if type(value) in TRANSFORMERS:
            fitted, describe, _ = TRANSFORMERS[type(value)]
            return describe(value) if hasattr(value, fitted) else None
        if type(value) in STEPS:
            return step_state(value)
        if isinstance(value, CTRClassifier | RatingRegressor):
            return model_state(value) if hasattr(value, "encoder_") else None
        return None

    def _fitted_names(self, value):
        if type(value) in STEPS:
            return names_of_step(type(value))
        if type(value) in self.components:
            return set()
        # The state of our own estimators is written from their attributes, nearly all of which end
        # like this.
        return {name for name in vars(value) if name.endswith("_") or name in _PRIVATE}

    def rebuild(self, name, output, params, state, reader, where):
        """The object of a node: constructed from parameters, then given its checked state."""
        if not isinstance(name, str) or name not in self.classes:
            raise ModelFileError(f"{where} has the class {name!r:.100}, which files may not name.")
        cls = self.classes[name]
        if isinstance(params, dict):
            params = {_RENAMED.get((name, key), key): v for key, v in params.items()}
        if not isinstance(params, dict) or not set(params) <= set(cls._get_param_names()):
            refuse(f"The parameters of {where}", f"some of {cls._get_param_names()}", params)
        value = cls(
            **{key: reader.value(v, f"{where}, {cls.__name__}.{key}") for key, v in params.items()}
        )
        if cls in STEPS:
            check_parameters(value)
        if hasattr(value, "_parameter_constraints"):
            validate_parameters(value)
        if output is not None:
            if output not in ("default", "pandas", "polars"):
                refuse(f"The output of {where}", "'default', 'pandas' or 'polars'", output)
            setattr(value, OUTPUT, {"transform": output})
        if state is None:
            return value
        if not isinstance(state, dict):
            refuse(f"The state of {where}", "an object or null", state)
        state = {
            key: reader.value(v, at(f"{where}, {cls.__name__}", key)) for key, v in state.items()
        }
        if cls in TRANSFORMERS:
            TRANSFORMERS[cls][2](value, state)
        elif cls in STEPS:
            self.steps_read.add(cls.__name__)
            restore_step(value, state)
        elif cls in (CTRClassifier, RatingRegressor):
            restore_model(value, state, reader.allow_nonfinite)
        else:
            refuse(f"The state of {where}", "null", sorted(state))
        return value


_PRIVATE = {"_schema", "_text_numbers", "_derived", "_counters", "_architecture", "_weight_seen"}
_PRIVATE |= {"_names", "_labels", "_positions", "_crosses", "_edges", "_combinations"}
_PRIVATE |= {
    "_all_finite",
    "_bins",
    "_keys",
    "_missing_cells",
    "_statistics",
    "_sources",
    "_numeric",
    "_centre",
    "_scale",
}
