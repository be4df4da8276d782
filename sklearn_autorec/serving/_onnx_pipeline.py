"""Export to ONNX with everything inside: a graph that takes the columns of a table as they are."""

import os
import tempfile

from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from ._onnx_calibration import calibrated_answer
from ._onnx_graph import GraphBuilder
from ._onnx_network import (
    EXTERNAL_BYTES,
    LOGITS,
    encoder_of,
    export_network,
    exportable,
    interface_of,
)
from ._onnx_raw import PREFIX, encoder_nodes, joined, table_columns
from ._onnx_steps import first_names, step_columns


def write_raw(model, path):
    """Write a fitted model or pipeline as a graph of raw columns; see `to_onnx`."""
    import onnx

    steps, last = _taken_apart(model)
    parts, answer = [last], None
    if isinstance(last, CalibratedClassifierCV):
        parts = [part.estimator for part in last.calibrated_classifiers_]
        answer = calibrated_answer(last)
    taken = [_taken_apart(part) for part in parts]
    ends = [exportable(network) for _, network in taken]
    graph = GraphBuilder(PREFIX)
    columns = table_columns(*first_names(model))
    for step in steps:
        columns = step_columns(step, columns, graph)
    networks = []
    for k, ((inner, _), network) in enumerate(zip(taken, ends, strict=True)):
        own = columns
        for step in inner:
            own = step_columns(step, own, graph)
        encoder = encoder_of(network)
        encoder_nodes(encoder, own, graph, f"{PREFIX}{k}.")
        interface = interface_of(network, encoder)
        networks.append((network, interface if answer is None else interface | {"output": LOGITS}))
    path = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".onnx-") as beside:
        protos = []
        for k, (network, interface) in enumerate(networks):
            file = os.path.join(beside, f"{k}.onnx")
            export_network(network, interface, file)
            protos.append((onnx.load(file), f"{PREFIX}{k}."))
        whole = joined(protos, graph, answer)
        many = sum(network.nbytes_["total"] for network, _ in networks) > EXTERNAL_BYTES
        more = {"save_as_external_data": True, "location": f"{os.path.basename(path)}.data"}
        if many and os.path.exists(f"{path}.data"):
            os.remove(f"{path}.data")  # onnx would append to it
        onnx.save(whole, path, **(more if many else {}))


def _taken_apart(model):
    """Steps of a pipeline, of pipelines within it as well, and the model at its end."""
    steps = []
    while isinstance(model, Pipeline | FrozenEstimator):
        if isinstance(model, FrozenEstimator):
            model = model.estimator
            continue
        *before, (_, model) = model.steps
        steps += [step for _, step in before]
        if not isinstance(model, BaseEstimator):
            break
    return steps, model
