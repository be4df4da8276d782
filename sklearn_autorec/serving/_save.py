"""Saving fitted models to files that hold no code, and reading them back."""

import json
import warnings
from numbers import Integral
from typing import Any

import joblib
import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from ..exceptions import ModelFileError
from ..utils._typing import FilePath
from ._container import pack, read, unpack_all, write
from ._nodes import Reader, Writer
from ._registry import Registry
from ._rows import rows_for
from ._step_composed import COMPOSED
from ._step_table import PARTS_ONLY
from ._steps import check_fitted


def save(model: Any, path: FilePath) -> None:
    """Write a fitted model to one file that holds data only and can be loaded without trusting it.

    Parameters
    ----------
    model : estimator, transformer of tables, or Pipeline of these
        Fitted. All estimators and transformers of this package, and of scikit-learn: scalers,
        encoders and discretisers of tables, SimpleImputer, VarianceThreshold, FunctionTransformer
        without a function, LogisticRegression, Ridge, RidgeCV, LinearRegression, and what holds
        them: Pipeline, ColumnTransformer, FeatureUnion, FrozenEstimator, CalibratedClassifierCV,
        estimators that vote and those that are stacked. Networks and search methods must be those
        of this package. Of a search save ``best_estimator_``.
    path : str or path-like
        A file there is replaced, all at once: there is never half a file.

    Raises
    ------
    TypeError
        If the model holds an object that cannot be saved; names it and its place.
    ValueError
        If the model was changed after fit such that its file could not be loaded (say, to a
        negative ``lr``; other valid parameters are free to change);
        ``sklearn.exceptions.NotFittedError`` if it is not fitted.

    Warns
    -----
    UserWarning
        If ``loss`` or ``monitor`` of an estimator is a function, which the file leaves out.

    Notes
    -----
    The file is about as large as the weights and vocabularies. It is read back in memory before it
    is written.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> from sklearn_autorec.serving import load, save
    >>> X, y, _ = make_ctr(500, n_fields=3, pairs=1, random_state=0)
    >>> model = CTRClassifier(network="fm", max_epochs=1, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, f"{folder}/clicks.model")
    ...     loaded = load(f"{folder}/clicks.model")
    >>> bool((loaded.predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    if not isinstance(model, BaseEstimator) or isinstance(model, type):
        raise TypeError(f"model must be a fitted estimator, got {model!r:.200}.")
    if type(model) in PARTS_ONLY:
        raise TypeError(f"model must be an estimator that takes a table, got {model!r:.200}.")
    registry = Registry()
    registry.check_known(model, "The model")
    check_fitted(model)
    writer = Writer(registry)
    header = writer.node(model, "The model")
    try:
        _rebuild(json.loads(json.dumps(header)), writer.arrays, registry, allow_nonfinite=True)
    except ModelFileError as error:
        raise ValueError(
            f"The model could not be loaded again, so it is not saved: {error} Was it changed "
            f"after fit?"
        ) from error
    write(path, pack(header, writer.arrays))


def load(path: FilePath, allow_nonfinite: bool = False, *, max_bytes: int | None = None) -> Any:
    """Read a model that `save` wrote; on the CPU, wherever it was trained.

    Nothing in the file can run, whoever wrote it: it holds numbers and strings, from which known
    classes are built, and every size and index is checked. Memory and time are bounded by the size
    of the file.

    Parameters
    ----------
    path : str or path-like
    allow_nonfinite : bool, default=False
        Accept NaN and infinity in weights.
    max_bytes : int or None, default=None
        Refuse a larger file before it is read. None: one for which there is no free memory.

    Returns
    -------
    estimator
        Predicts the same bits as the saved one on the same machine.

    Raises
    ------
    ModelFileError
        A ValueError, for whatever is wrong with the content of the file: cut, changed, of a newer
        version, or contradictory.
    OSError
        If the file cannot be read.

    Warns
    -----
    InconsistentVersionWarning
        If the file holds an estimator of scikit-learn that another version of it fitted (the first
        two numbers differ).

    Examples
    --------
    See `save`.
    """
    if max_bytes is not None and (
        isinstance(max_bytes, bool) or not isinstance(max_bytes, Integral) or max_bytes < 0
    ):
        raise ValueError(f"max_bytes must be None or an int of at least 0, got {max_bytes!r}.")
    return _loads(read(path, max_bytes), allow_nonfinite)


def _loads(data: bytes, allow_nonfinite: bool = False) -> Any:
    """The model in the bytes of a file."""
    header, arrays, versions = unpack_all(data)
    registry, written = Registry(), versions.get("scikit-learn", sklearn.__version__)
    other = written.split(".")[:2] != sklearn.__version__.split(".")[:2]
    try:
        model = _rebuild(header, arrays, registry, allow_nonfinite)
    except ModelFileError as error:
        if not other:
            raise
        raise ModelFileError(
            f"{error} The file was written with scikit-learn {written:.20}; this is "
            f"{sklearn.__version__}."
        ) from error
    if other and registry.steps_read:
        warnings.warn(
            InconsistentVersionWarning(
                estimator_name=min(registry.steps_read),
                current_sklearn_version=sklearn.__version__,
                original_sklearn_version=written,
            ),
            stacklevel=3,
        )
    return model


def _rebuild(header: Any, arrays: Any, registry: Registry, allow_nonfinite: bool) -> Any:
    reader = Reader(registry, arrays, allow_nonfinite)
    try:
        model = reader.value(header, "The model")
        reader.finish()
        if not isinstance(model, BaseEstimator) or type(model) in PARTS_ONLY:
            raise ModelFileError(
                f"The file holds a value of type {type(model).__name__}, which is no estimator of "
                f"tables."
            )
        check_fitted(model)
        _try_out(model, allow_nonfinite)
    except ModelFileError:
        raise
    except (
        Exception
    ) as error:  # values that pass all checks alone can still contradict each other anywhere
        raise ModelFileError(
            f"The model in the file is not consistent: {type(error).__name__}: {error}"
        ) from error
    return model


def _try_out(model: Any, allow_nonfinite: bool) -> None:
    """Predict two rows that the model should know: what is of the wrong type or shape shows now,
    not in service.

    A pipeline, or what holds others, may reject the rows (its later steps have seen other values),
    but not fail otherwise.
    """
    rows = rows_for(model)
    with warnings.catch_warnings(), joblib.parallel_config("sequential"), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = _output(model, rows)
        except ValueError:
            if type(model) not in COMPOSED:
                raise
            return
        if not allow_nonfinite and found is not None and not np.isfinite(found).all():
            raise ModelFileError("Its predictions are not finite.")


def _output(model: Any, rows: Any) -> Any:
    if hasattr(model, "predict_proba"):
        model.predict(rows)
        return model.predict_proba(rows)
    if hasattr(model, "predict"):
        return model.predict(rows)
    model.transform(rows)
    return None  # of transformers, nan may be a fine result
