"""Export to ONNX: the network as a graph, the encoder inside or as a vocabulary file beside it."""

import json
import os
from typing import Any, Literal

from ..preprocessing._columns import CATEGORICAL, NUMERIC, VECTOR
from ..preprocessing._numeric import GRIDS
from ..utils._typing import FilePath
from ._onnx_inputs import FORMAT, FORMAT_VERSION
from ._onnx_network import encoder_of, export_network, exportable, interface_of
from ._onnx_pipeline import write_raw

_TYPES = {"i": "integers", "f": "floats", "O": "strings", None: None}


def to_onnx(model: Any, path: FilePath, inputs: Literal["encoded", "raw"] = "encoded") -> None:
    """Write a fitted model as an ONNX graph, with its vocabulary inside or in a file beside it.

    Parameters
    ----------
    model : CTRClassifier, RatingRegressor, CalibratedClassifierCV or Pipeline that ends in one
        Fitted. Pipelines and calibrated classifiers only with ``inputs="raw"``.
    path : str or path-like
        Models of more than 1 GiB get a second file with their weights, ``<path>.data``.
    inputs : {"encoded", "raw"}, default="encoded"
        What the graph takes. "encoded": what the encoder makes of rows; how values become that
        stands in a second file, ``<path>.vocab.json``. "raw": the columns of the table as they are,
        one input each; there is no second file.

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed.
    TypeError, ValueError
        For other models, for a classifier that saw a single class (it has no network), and for
        steps and columns of which no graph can be made: names them. With "raw" these are columns
        whose values are hashed, those that are text (or times) and numbers at once, and hours,
        weekdays and months of times in a zone without a fixed offset.

    Notes
    -----
    Inputs of a graph of encoded rows, those that the table has:

    - ``ids``: int32 (batch, categorical columns),
    - ``numeric``: float32 (batch, 2 * numeric columns + numbers of vectors, each vector one more),
    - ``sequences``: int32 (batch, items of all sequence columns).

    Inputs of a graph of raw columns have the names of the columns that are read, and the shape
    (batch, 1), of lists (batch, items), padded with what is missing, of vectors (batch, length).
    Their types follow from the values in ``fit``:

    - ids that are text: string; missing is "". Numbers among text are its shortest digits;
    - ids that are whole numbers or booleans (1 and 0): int64; missing is -2**63;
    - other ids, numbers, and durations in seconds: double; missing is NaN;
    - vectors: double; NaN where a number is missing, everywhere if the vector is;
    - times: int64, microseconds since 1970 (UTC if there is a zone), missing is -2**63; where they
      are ids string, "2026-03-01T12:30:00.000000".

    Unknown values get the row of unknown ones. The metadata of the graph say all that under the key
    "sklearn_autorec.columns"; `onnx_inputs` reads it.

    The output is ``probabilities``, float32 (batch, classes), or ``rating``, float32 (batch,). Of
    isotonic calibration it is the one of a logit some 1e-6 away. The parts beside the network are
    in the graph, unless their combinations are hashed.

    Steps of a pipeline may be selectors of columns, scalers (StandardScaler, MinMaxScaler,
    MaxAbsScaler, RobustScaler), SimpleImputer of numbers, OrdinalEncoder that allows unknown
    values, FieldCrosser, AutoCross and GLIDER with ``output="ids"``, ColumnTransformer,
    FunctionTransformer without a function, and Pipelines of these.

    Examples
    --------
    >>> from sklearn_autorec.serving import to_onnx
    >>> to_onnx(model, "clicks.onnx", inputs="raw")  # doctest: +SKIP
    """
    if inputs not in ("encoded", "raw"):
        raise ValueError(f"inputs must be 'encoded' or 'raw', got {inputs!r}.")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"to_onnx needs {error.name}; pip install sklearn-autorec[onnx]"
        ) from error
    if inputs == "raw":
        write_raw(model, path)
        return
    model = exportable(model)
    vocabulary = vocabulary_of(model)
    export_network(model, vocabulary, path)
    with open(f"{os.fspath(path)}.vocab.json", "w", encoding="utf-8") as file:
        json.dump(vocabulary, file, indent=1, allow_nan=False)


def vocabulary_of(model: Any) -> dict[str, Any]:
    """The vocabulary file of a fitted model, as JSON values; see `onnx_inputs` for its meaning."""
    encoder = encoder_of(model)
    schema = encoder._schema
    names = schema.column_labels
    if len(set(names)) < len(names):
        raise ValueError(f"Column names must differ as strings, got {names}.")
    columns = []
    parts = [*schema.categorical, *schema.numeric, *schema.sequence, *schema.vector]
    for i in parts:
        field, kind = encoder._fields[i], schema.kinds[i]
        column = {"name": schema.column_labels[schema.sources[i]], "kind": kind}
        time = (schema.times or {}).get(schema.sources[i])
        if time is not None:
            column["time"] = {"kind": time.kind, "zone": time.zone}
        if i in schema.time_fields:
            column["field"] = schema.time_fields[i]
        if kind == VECTOR:
            column |= _vectors(field)
        elif kind == NUMERIC:
            column |= {"method": field.method, **_numbers(field)}
        elif i in schema.shared:
            column["shares"] = parts.index(schema.shared[i])
        else:
            column |= _ids(field)
        if kind not in (NUMERIC, CATEGORICAL, VECTOR):
            column |= {"max_length": encoder.max_length, "separator": schema.separators.get(i)}
        columns.append(column)
    return {
        "format": FORMAT,
        "version": _version(columns),
        **interface_of(model, encoder),
        "missing": 0,
        "unknown": 1,
        "columns": columns,
    }


def _version(columns):
    """The first version whose readers know the columns: that of those that share is the second,
    that of vectors and of fields of times the third.
    """
    if any(column["kind"] == VECTOR or "field" in column for column in columns):
        return FORMAT_VERSION
    return 2 if any("shares" in column for column in columns) else 1


def _vectors(scaler):
    """How the numbers of a vector are standardised; those of scale null are 0."""
    scale = [
        None if constant else value
        for value, constant in zip(scaler.scale.tolist(), scaler.constant.tolist(), strict=True)
    ]
    return {"mean": scaler.mean.tolist(), "scale": scale}


def _ids(field):
    """What the ids of a column's values are."""
    ids = {"type": _TYPES[field.kind], "n_ids": int(field.n_ids)}
    if field.n_hash_buckets:
        return {**ids, "buckets": field.n_hash_buckets}
    ids["ids"] = {_text(v): 2 + k for k, v in enumerate(field.categories.tolist())}
    if field.words:
        ids["words"] = {str(truth).lower(): at for truth, at in field.words.items()}
        ids["only_words"] = field.only_words
    return ids


def _numbers(scaler):
    newest = {} if scaler.newest is None else {"newest": scaler.newest}
    if scaler.method in GRIDS:
        return {**newest, "grid": scaler.grid.tolist(), "score": scaler.score.tolist()}
    return {**newest, "mean": scaler.mean, "scale": scaler.scale}


def _text(value):
    return value if isinstance(value, str) else repr(value)
