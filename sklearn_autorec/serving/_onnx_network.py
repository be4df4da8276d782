"""The network of a fitted model, and what stands beside it, as an ONNX graph of encoded rows."""

import copy
import logging
import math
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
from ..utils._state import snapshot
from ._finite import unwatched
from ._onnx_mixture import MixtureModule

LOGITS = "logits"  # an output beside those that are named in `interface_of`
EXTERNAL_BYTES = 2**30  # one protobuf file holds 2 GiB at most


class _Served(nn.Module):
    """Encoded parts that the table has -> probabilities (B, C) or ratings (B,), float32; or logits,
    (B, 1) of two classes.
    """

    def __init__(self, model, module, names, output):
        super().__init__()
        self.module = module
        mixture = model.__dict__.get("_mixture_")
        self.mixture = None if mixture is None else MixtureModule(mixture)
        self.names, self.output = names, output
        self.n_classes = len(model.classes_) if isinstance(model, CTRClassifier) else None
        self.negative_rate = model.__dict__.get("negative_sampling_rate_", 1.0)
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
        if self.negative_rate != 1.0:
            logits = logits + math.log(self.negative_rate)
        if self.output == LOGITS:
            return logits
        if self.n_classes is None:
            return logits[:, 0] * self.scale + self.mean
        if self.n_classes == 2:
            positive = torch.sigmoid(logits)
            return torch.cat([1 - positive, positive], 1)
        return torch.softmax(logits, 1)


def exportable(model):
    """A model as one fit left it, if it can be exported."""
    if not isinstance(model, CTRClassifier | RatingRegressor):
        raise TypeError(f"model must be a CTRClassifier or a RatingRegressor, got {model!r:.200}.")
    model = snapshot(model)  # another thread may fit
    check_is_fitted(model, "encoder_")
    if model.net_ is None:
        raise ValueError(
            f"The model has seen the single class {model.classes_.tolist()}; there is no network "
            f"to export."
        )
    return model


def export_network(model, interface, path):
    """Write the graph of encoded rows, whose inputs and output `interface_of` gave."""
    module = unwatched(copy.deepcopy(model.net_.module_)).to("cpu").eval()
    names = [part["name"] for part in interface["inputs"]]
    examples = tuple(
        torch.zeros(3, part["width"], dtype=getattr(torch, part["dtype"]))
        for part in interface["inputs"]
    )
    batch = torch.export.Dim("batch")
    dynamic = (tuple({0: batch} for _ in names),)
    with _quiet():
        # Exported beforehand: left to itself, torch.onnx.export falls back to a fixed batch where
        # code depends on it. Not strict: on older releases strict tracing knows neither autograd
        # functions nor unions of dicts.
        served = _Served(model, module, names, interface["output"]).eval()
        program = torch.export.export(served, examples, dynamic_shapes=dynamic, strict=False)
        torch.onnx.export(
            program,
            examples,
            os.fspath(path),
            input_names=names,
            output_names=[interface["output"]],
            dynamo=True,
            dynamic_shapes=dynamic,
            external_data=model.nbytes_["total"] > EXTERNAL_BYTES,
            verbose=False,
        )


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


def interface_of(model, encoder):
    """Inputs, output and classes of the graph of encoded rows, as JSON values."""
    schema = encoder._schema
    widths = {
        "ids": ("int32", len(schema.categorical)),
        "numeric": (
            "float32",
            2 * len(schema.numeric) + sum(n + 1 for n in encoder.vector_lengths_),
        ),
        "sequences": ("int32", len(schema.sequence) * encoder.max_length),
    }
    return {
        "output": "probabilities" if isinstance(model, CTRClassifier) else "rating",
        "classes": np.asarray(model.classes_).tolist()
        if isinstance(model, CTRClassifier)
        else None,
        "inputs": [
            {"name": n, "dtype": dtype, "width": width}
            for n, (dtype, width) in widths.items()
            if width
        ],
    }


def encoder_of(model):
    """The encoder of a fitted model, if it is one of ours."""
    encoder = (
        model.encoder_.estimator if isinstance(model.encoder_, FrozenEstimator) else model.encoder_
    )
    if not isinstance(encoder, FieldEncoder):
        raise TypeError(
            f"encoder_ is {encoder!r}; a model can be exported if it is a FieldEncoder, or a "
            f"frozen one."
        )
    return encoder
