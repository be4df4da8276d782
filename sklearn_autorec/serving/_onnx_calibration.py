"""Calibrated probabilities as nodes of an ONNX graph.

All of it is computed in double. The logits are not: a runtime sums float32 in another order than
torch does, so that their last bits differ. Sigmoids do not feel that; an isotonic curve is as steep
as its thresholds are close, and its answer is the one for a logit some 1e-6 away.
"""

import numpy as np


def calibrated_answer(model):
    """What makes probabilities of the logits of a fitted `CalibratedClassifierCV`'s networks.

    Returns
    -------
    function
        (GraphBuilder, names of the logits of each part) -> description of the output

    Raises
    ------
    ValueError
        If a part has not seen all classes.
    """
    n_classes = len(model.classes_)
    for part in model.calibrated_classifiers_:
        own = getattr(part.estimator, "classes_", model.classes_)
        if len(own) != n_classes or n_classes < 2:
            raise ValueError(
                f"A part of the calibrated model has seen the classes {own.tolist()} only, of "
                f"{model.classes_.tolist()}; there is no graph for that. Use stratified folds."
            )

    def answer(graph, logits):
        from onnx import TensorProto, helper

        parts = [
            _probabilities(graph, graph.cast(name, np.float64), part, n_classes)
            for name, part in zip(logits, model.calibrated_classifiers_, strict=True)
        ]
        total = graph.node("Sum", *parts)
        mean = graph.node("Div", total, graph.constant(len(parts), np.float64))
        graph.side_by_side([mean], np.float32, "probabilities")
        return helper.make_tensor_value_info(
            "probabilities", TensorProto.FLOAT, ["batch", n_classes]
        )

    return answer


def _probabilities(graph, logits, part, n_classes):
    """Double (batch, classes) of logits (batch, 1), or of several classes (batch, classes)."""
    one = graph.constant(1.0, np.float64)
    if part.method == "temperature":
        scaled = graph.node("Mul", logits, graph.constant(part.calibrators[0].beta_, np.float64))
        if n_classes > 2:
            return graph.node("Softmax", scaled, axis=1)
        # scikit-learn takes the logit for half the distance of two.
        positive = graph.node("Sigmoid", graph.node("Add", scaled, scaled))
        return graph.node("Concat", graph.node("Sub", one, positive), positive, axis=1)
    columns = [
        _calibrated(graph, graph.node("Gather", logits, graph.constant([k], np.int64), axis=1), own)
        for k, own in enumerate(part.calibrators)
    ]
    if n_classes == 2:
        return graph.node("Concat", graph.node("Sub", one, columns[0]), columns[0], axis=1)
    found = graph.node("Concat", *columns, axis=1)
    total = graph.node("ReduceSum", found, graph.constant([1], np.int64), keepdims=1)
    none = graph.node("Equal", total, graph.constant(0.0, np.float64))
    shares = graph.node("Div", found, graph.node("Where", none, one, total))
    return graph.node("Where", none, graph.constant(1 / n_classes, np.float64), shares)


def _calibrated(graph, logit, calibrator):
    """A calibrator's probability of a logit, double (batch, 1) both."""
    if hasattr(calibrator, "a_"):
        line = graph.node("Mul", logit, graph.constant(-calibrator.a_, np.float64))
        return graph.node(
            "Sigmoid", graph.node("Sub", line, graph.constant(calibrator.b_, np.float64))
        )
    x, y = (
        np.asarray(values, dtype=np.float64)
        for values in (calibrator.X_thresholds_, calibrator.y_thresholds_)
    )
    if len(x) == 1:
        zeros = graph.node("Mul", logit, graph.constant(0.0, np.float64))
        return graph.node("Add", zeros, graph.constant(y[0], np.float64))
    return graph.interpolated(logit, x, y)
