"""Saving fitted models to files that hold no code, and reading them back."""

import json
import warnings
from numbers import Integral

import joblib
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from ..exceptions import ModelFileError
from ..feature_crossing import AutoCross, FieldCrosser, TargetStatistics
from ..preprocessing import FieldEncoder
from ._container import pack, read, unpack, write
from ._nodes import Reader, Writer
from ._probe import probe_rows
from ._registry import Registry
from ._steps import check_fitted


def save(model, path):
    """Write a fitted model to one file that holds data only and can be loaded without trusting it.

    Parameters
    ----------
    model : estimator, transformer of tables, or Pipeline of these
        CTRClassifier, RatingRegressor, CrossedLinearClassifier, CrossedLinearRegressor,
        FieldEncoder, FieldCrosser, AutoCross or TargetStatistics.
        Fitted. Steps of a pipeline may be StandardScaler, MinMaxScaler, SimpleImputer,
        OrdinalEncoder, OneHotEncoder, ColumnTransformer, VarianceThreshold, FunctionTransformer
        without a function, LogisticRegression, FrozenEstimator and "passthrough". Networks and
        search methods must be those of this package.
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
    check_fitted(model)
    registry = Registry()
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


def load(path, allow_nonfinite=False, *, max_bytes=None):
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

    Examples
    --------
    See `save`.
    """
    if max_bytes is not None and (
        isinstance(max_bytes, bool) or not isinstance(max_bytes, Integral) or max_bytes < 0
    ):
        raise ValueError(f"max_bytes must be None or an int of at least 0, got {max_bytes!r}.")
    return _loads(read(path, max_bytes), allow_nonfinite)


def _loads(data, allow_nonfinite=False):
    """The model in the bytes of a file."""
    return _rebuild(*unpack(data), Registry(), allow_nonfinite)


def _rebuild(header, arrays, registry, allow_nonfinite):
    reader = Reader(registry, arrays, allow_nonfinite)
    try:
        model = reader.value(header, "The model")
        reader.finish()
        if not isinstance(model, BaseEstimator):
            raise ModelFileError(
                f"The file holds a value of type {type(model).__name__}, which is no estimator."
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


def _try_out(model, allow_nonfinite):
    """Predict two rows that the model should know: what is of the wrong type or shape shows now,
    not in service.

    A pipeline may reject the rows (its later steps have seen other values), but not fail otherwise.
    """
    rows = _rows(model)
    with warnings.catch_warnings(), joblib.parallel_config("sequential"), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = _output(model, rows)
        except ValueError:
            if not isinstance(model, Pipeline | ColumnTransformer):
                raise
            return
        if not allow_nonfinite and found is not None and not np.isfinite(found).all():
            raise ModelFileError("Its predictions are not finite.")


def _output(model, rows):
    if hasattr(model, "predict_proba"):
        model.predict(rows)
        return model.predict_proba(rows)
    if hasattr(model, "predict"):
        return model.predict(rows)
    model.transform(rows)
    return None  # of transformers, nan may be a fine result


def _rows(model):
    """Two rows of a table that a model was fitted for, as far as its state tells."""
    if isinstance(model, FrozenEstimator):
        return _rows(model.estimator)
    if isinstance(model, AutoCross):
        return _rows(model.crosser_)
    if isinstance(model, FieldCrosser | TargetStatistics):
        read = probe_rows(model.encoder_)
        columns = {i: np.zeros(2) for i in range(model.n_features_in_)}
        columns |= {i: read.iloc[:, k] for k, i in enumerate(model._positions)}
        return pd.DataFrame(columns).set_axis(model._names or range(len(columns)), axis=1)
    if isinstance(model, Pipeline):
        steps = [step for _, step in model.steps if isinstance(step, BaseEstimator)]
        return _rows(steps[0]) if steps else np.zeros((2, 1))
    encoder = getattr(model, "encoder_", model)
    if isinstance(encoder, FrozenEstimator):
        encoder = encoder.estimator
    if isinstance(encoder, FieldEncoder):
        return probe_rows(encoder)
    n = getattr(model, "n_features_in_", 1)
    columns = {i: np.zeros(2) for i in range(n)}
    if isinstance(model, OneHotEncoder | OrdinalEncoder):
        columns = {i: values[[0, -1]] for i, values in enumerate(model.categories_)}
    if isinstance(model, SimpleImputer):
        columns = {i: [model.statistics_[i]] * 2 for i in range(n)}
    if isinstance(model, ColumnTransformer):
        for name, step, _ in model.transformers_:
            if isinstance(step, BaseEstimator):
                inner = _rows(step)
                for k, i in enumerate(model._transformer_to_input_indices[name]):
                    columns[i] = (
                        np.asarray(inner)[:, k]
                        if isinstance(inner, np.ndarray)
                        else inner.iloc[:, k]
                    )
    table = pd.DataFrame(
        {i: pd.Series(column).reset_index(drop=True) for i, column in columns.items()}
    )
    if hasattr(model, "feature_names_in_"):
        table.columns = model.feature_names_in_
    return table
