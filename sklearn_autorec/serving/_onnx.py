"""Export to ONNX: the network as a graph, the encoder as a vocabulary file beside it."""

import copy
import json
import logging
import os
import warnings
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..estimators import CTRClassifier, RatingRegressor
from ..preprocessing import FieldEncoder
from ..preprocessing._columns import CATEGORICAL, NUMERIC
from ..preprocessing._numeric import GRIDS
from ..utils._state import snapshot
from ._finite import unwatched
from ._onnx_inputs import FORMAT, FORMAT_VERSION
from ._onnx_mixture import MixtureModule

EXTERNAL_BYTES = 2**30  # one protobuf file holds 2 GiB at most
_TYPES = {"i": "integers", "f": "floats", "O": "strings", None: None}


class _Served(nn.Module):
    """Encoded parts that the table has -> probabilities (B, C) or ratings (B,), float32."""

    def __init__(self, model, module, names):
        super().__init__()
        self.module = module
        mixture = model.__dict__.get("_mixture_")
        self.mixture = None if mixture is None else MixtureModule(mixture)
        self.names = names
        self.n_classes = len(model.classes_) if isinstance(model, CTRClassifier) else None
        if self.n_classes is None:
            self.mean, self.scale = model.y_mean_, model.y_scale_

    def forward(self, *parts):
        empty = parts[0].new_zeros((parts[0].shape[0], 0))
        inputs = dict.fromkeys(("ids", "numeric", "sequences"), empty) | dict(
            zip(self.names, parts, strict=True)
        )
        logits = self.module(**inputs)
        if self.mixture is not None:
            logits = self.mixture(logits, **inputs)
        if self.n_classes is None:
            return logits[:, 0] * self.scale + self.mean
        if self.n_classes == 2:
            positive = torch.sigmoid(logits)
            return torch.cat([1 - positive, positive], 1)
        return torch.softmax(logits, 1)


def to_onnx(model, path):
    """Write a fitted model as an ONNX graph, and its vocabulary as ``<path>.vocab.json``.

    Parameters
    ----------
    model : CTRClassifier or RatingRegressor
        Fitted. Of a Pipeline, export its last step.
    path : str or path-like
        Models of more than 1 GiB get a second file with their weights, ``<path>.data``.

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed.
    TypeError, ValueError
        For other models, and for a classifier that saw a single class (it has no network).

    Notes
    -----
    Inputs of the graph, those that the table has:

    - ``ids``: int32 (batch, categorical columns),
    - ``numeric``: float32 (batch, 2 * numeric columns),
    - ``sequences``: int32 (batch, items of all sequence columns).

    Its output is ``probabilities``, float32 (batch, classes), or ``rating``, float32 (batch,). How
    values become ids and numbers stands in the vocabulary file; `onnx_inputs` is the reference for
    code that does so.

    Examples
    --------
    >>> from sklearn_autorec.serving import to_onnx
    >>> to_onnx(model, "clicks.onnx")  # doctest: +SKIP
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"to_onnx needs {error.name}; pip install sklearn-autorec[onnx]"
        ) from error
    if not isinstance(model, CTRClassifier | RatingRegressor):
        raise TypeError(f"model must be a CTRClassifier or a RatingRegressor, got {model!r:.200}.")
    model = snapshot(model)  # another thread may fit
    check_is_fitted(model, "encoder_")
    if model.net_ is None:
        raise ValueError(
            f"The model has seen the single class {model.classes_.tolist()}; there is no network "
            f"to export."
        )
    vocabulary = vocabulary_of(model)
    module = unwatched(copy.deepcopy(model.net_.module_)).to("cpu").eval()
    names = [part["name"] for part in vocabulary["inputs"]]
    examples = tuple(
        torch.zeros(3, part["width"], dtype=getattr(torch, part["dtype"]))
        for part in vocabulary["inputs"]
    )
    batch = torch.export.Dim("batch")
    dynamic = (tuple({0: batch} for _ in names),)
    with _quiet():
        # Exported beforehand: left to itself, torch.onnx.export falls back to a fixed batch where
        # code depends on it. Not strict: on older releases strict tracing knows neither autograd
        # functions nor unions of dicts.
        served = _Served(model, module, names).eval()
        program = torch.export.export(served, examples, dynamic_shapes=dynamic, strict=False)
        torch.onnx.export(
            program,
            examples,
            os.fspath(path),
            input_names=names,
            output_names=[vocabulary["output"]],
            dynamo=True,
            dynamic_shapes=dynamic,
            external_data=model.nbytes_["total"] > EXTERNAL_BYTES,
            verbose=False,
        )
    with open(f"{os.fspath(path)}.vocab.json", "w", encoding="utf-8") as file:
        json.dump(vocabulary, file, indent=1, allow_nan=False)


@contextmanager
def _quiet():
    """Without what torch's exporter says about torch itself."""
    # Reports that torchvision is missing.
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=r".*isinstance\(treespec", category=FutureWarning
            )
            # All inputs share their first axis.
            warnings.filterwarnings(
                "ignore", message="# The axis name: batch will not be used", category=UserWarning
            )
            yield
    finally:
        logger.setLevel(level)


def vocabulary_of(model):
    """The vocabulary file of a fitted model, as JSON values; see `onnx_inputs` for its meaning."""
    encoder = (
        model.encoder_.estimator if isinstance(model.encoder_, FrozenEstimator) else model.encoder_
    )
    if not isinstance(encoder, FieldEncoder):
        raise TypeError(
            f"encoder_ is {encoder!r}; a model can be exported if it is a FieldEncoder, or a "
            f"frozen one."
        )
    schema = encoder._schema
    names = schema.column_labels
    if len(set(names)) < len(names):
        raise ValueError(f"Column names must differ as strings, got {names}.")
    columns = []
    shared = dict(zip(schema.sequence, encoder.shared_with_, strict=True))
    for i in (*schema.categorical, *schema.numeric, *schema.sequence):
        field, kind = encoder._fields[i], schema.kinds[i]
        column = {"name": schema.column_labels[schema.sources[i]], "kind": kind}
        if i in (schema.times or {}):
            column["time"] = {"kind": schema.times[i].kind, "zone": schema.times[i].zone}
        if kind == NUMERIC:
            column |= {"method": field.method, **_numbers(field)}
        elif shared.get(i) is not None:
            column["shares"] = shared[i]  # categorical columns are the first of the list
        else:
            column |= _ids(field)
        if kind not in (NUMERIC, CATEGORICAL):
            column |= {"max_length": encoder.max_length, "separator": schema.separators.get(i)}
        columns.append(column)
    widths = {
        "ids": ("int32", len(schema.categorical)),
        "numeric": ("float32", 2 * len(schema.numeric)),
        "sequences": ("int32", len(schema.sequence) * encoder.max_length),
    }
    return {
        "format": FORMAT,
        # Readers of the first version know no columns that share.
        "version": FORMAT_VERSION if any("shares" in column for column in columns) else 1,
        "output": "probabilities" if isinstance(model, CTRClassifier) else "rating",
        "classes": np.asarray(model.classes_).tolist()
        if isinstance(model, CTRClassifier)
        else None,
        "inputs": [
            {"name": n, "dtype": dtype, "width": width}
            for n, (dtype, width) in widths.items()
            if width
        ],
        "missing": 0,
        "unknown": 1,
        "columns": columns,
    }


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
    if scaler.method in GRIDS:
        return {"grid": scaler.grid.tolist(), "score": scaler.score.tolist()}
    return {"mean": scaler.mean, "scale": scaler.scale}


def _text(value):
    return value if isinstance(value, str) else repr(value)
