"""The encoder as nodes of an ONNX graph: columns of raw cells to ids and numbers."""

import json

import numpy as np

from ..preprocessing._names import labels_of
from ..preprocessing._spelling import EXACT, WORDS
from ..preprocessing._times import TIME, fixed_offset
from ..preprocessing._values import BOOLEANS, NUMBERS, STRINGS
from ..preprocessing._vocabulary import UNKNOWN
from ._onnx_cells import COLUMNS, VERSIONS
from ._onnx_graph import MISSING_INTEGER, MOMENT, UNKNOWN_INTEGER, GraphBuilder
from ._onnx_times import calendar_of, seconds_of

METADATA = "sklearn_autorec.columns"  # key of the graph's metadata
# Of the names of values.
PREFIX, NETWORK, ANSWER = "raw.", "network.", "answer."
OUTPUTS = ("probabilities", "rating")
ML_VERSION = 4  # the first that looks up float64
_TYPES = {"O": "string", None: "string", "i": "int64", "f": "double"}


class Column:
    """Cells of one column on their way through a graph.

    Parameters
    ----------
    name : str
    value : str or None, default=None
        Name of the value in the graph; None of a column of the table, which becomes an input when
        it is first read.
    type : {"string", "int64", "double", "moment"} or None, default=None
        "moment" is int64, microseconds since 1970.
    """

    def __init__(self, name, value=None, type=None):
        self.name, self.value, self.type = name, value, type

    def read(self, graph, wanted, **told):
        """The name of its cells as a type; ``told`` is what else there is to say of an input."""
        if self.value is None:
            held = {"type": "int64", "unit": "microseconds"} if wanted == MOMENT else {}
            graph.input({"name": self.name, "type": wanted, **told, **held})
            self.value, self.type = self.name, wanted
        known = graph.columns.get(self.value, {})
        for key, what in (("items", "a list"), ("length", "a vector")):
            if told.get(key) != known.get(key):
                raise ValueError(f"Column {self.name!r} is read as {what} and as something else.")
        return graph.converted(self.value, self.type, wanted, self.name)


def table_columns(names, n):
    """A `Column` for each of n columns of a table, whose names become those of inputs."""
    labels = labels_of(names, n)
    if len(set(labels)) < len(labels):
        raise ValueError(f"Column names must differ as strings, got {labels}.")
    for label in labels:
        if label in OUTPUTS or label.startswith((PREFIX, NETWORK, ANSWER)) or not _is_text(label):
            raise ValueError(
                f"The column name {label!r} cannot be that of an input, since the graph has a "
                f"value of this name or it is no text; rename the column."
            )
    return [Column(label) for label in labels]


def metadata_of(graph):
    """What the inputs of a graph are, as JSON values."""
    return {
        "format": COLUMNS,
        "version": VERSIONS[-1],
        "missing": {"string": "", "int64": MISSING_INTEGER, "double": "NaN"},
        "unknown": {"int64": UNKNOWN_INTEGER},
        "columns": list(graph.columns.values()),
    }


def _check_vocabulary(field, name):
    if field.n_hash_buckets:
        raise ValueError(
            f"Column {name!r} is hashed into {field.n_hash_buckets} ids, which an ONNX graph "
            f"cannot do: its values are not known one by one, and no operator hashes text, as "
            f'which numbers are hashed too. Use inputs="encoded", or fit with a larger '
            f"hash_threshold (or None)."
        )
    if field.kind == "i" and np.isin(field.categories, [MISSING_INTEGER, UNKNOWN_INTEGER]).any():
        raise ValueError(
            f"Column {name!r} has the value {MISSING_INTEGER} or the next one, which stand for "
            f'missing and unknown cells in a graph. Use inputs="encoded".'
        )
    if field.kind == "O":
        odd = [v for v in field.categories.tolist() if not _is_text(v)]
        if odd:
            raise ValueError(
                f"Column {name!r} has the value {odd[0]!r:.60}, which is no Unicode text (a lone "
                f"surrogate, or a null character), so that no graph can hold it. Use "
                f'inputs="encoded".'
            )


def _is_text(value):
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def ids_of(field):
    """Of every cell that a graph has to tell from unknown ones its id, by value: those that the
    vocabulary itself gives.
    """
    if field.kind == "i":
        return {MISSING_INTEGER: 0, **_given(field, field.categories, NUMBERS)}
    if field.kind == "f":
        narrow = field.categories.astype(np.float32).astype(np.float64)
        both = np.unique(np.concatenate([field.categories, narrow]))
        return _given(field, both[np.isfinite(both)], NUMBERS)
    ids = {"": 0}
    if field.kind is None:
        return ids
    ids |= _given(field, field.categories, STRINGS)
    # Names of booleans in every spelling.
    others = [word for word in (*WORDS, "0", "1") if word not in ids]
    ids |= _given(field, np.array(others, dtype=object), STRINGS)
    if field.seen & (NUMBERS | BOOLEANS):
        # Whole numbers that were floats among text: 1 is known as "1.0".
        whole = [float(v) for v in field.categories.tolist() if _is_whole(v)]
        more = _given(field, np.array(whole, dtype=np.int64), NUMBERS)
        ids |= {f"{value}": at for value, at in more.items() if f"{value}" not in ids}
    return ids


def _is_whole(text):
    head, point, tail = text.partition(".")
    return (
        point == "."
        and tail == "0"
        and head.lstrip("-").isdecimal()
        and (abs(int(head)) < EXACT and head.isascii())
    )


def _given(field, values, seen):
    if not len(values):
        return {}
    ids = field.ids(np.arange(len(values)), values, seen)[0].tolist()
    return {v: at for v, at in zip(values.tolist(), ids, strict=True) if at != UNKNOWN}


def encoded_parts(encoder, columns, graph, wanted=None):
    """Names of what `FieldEncoder.encode` makes of columns, as lists of values by "ids" (int64),
    "numeric" (double; scaled, then missing indicators, then vectors) and "sequences" (int64).

    Parameters
    ----------
    encoder : FieldEncoder
    columns : list of Column
        Those that the encoder was fitted on.
    graph : GraphBuilder
    wanted : set of int or None, default=None
        Positions of categorical columns; None for all of every kind. Others stay unread, and have
        no ids.
    """
    schema = encoder._schema

    def time_of(i):
        return (schema.times or {}).get(schema.sources[i])

    def told(i):
        time = time_of(i)
        return {} if time is None else {"time": {"kind": time.kind, "zone": time.zone}}

    def moments(i):
        return columns[schema.sources[i]].read(graph, MOMENT, **told(i))

    ids, lists = [], []
    for i in schema.categorical:
        # Of columns that share a vocabulary the graph has the values once.
        field, column = encoder._fields[schema.shared.get(i, i)], columns[schema.sources[i]]
        if wanted is not None and schema.sources[i] not in wanted:
            ids.append(None)
            continue
        _check_vocabulary(field, column.name)
        if i in schema.time_fields:
            offset = _offset_of(time_of(i).zone, column.name, schema.time_fields[i])
            cells = calendar_of(moments(i), offset, schema.time_fields[i], graph)
            known = {MISSING_INTEGER: 0} if field.kind is None else ids_of(field)
            ids.append(graph.look_up(cells, "int64", known))
            continue
        cells = column.read(graph, _TYPES[field.kind], **told(i))
        ids.append(graph.look_up(cells, _TYPES[field.kind], ids_of(field)))
    scaled = []
    if wanted is not None:
        return {"ids": ids}
    for i in schema.numeric:
        if time_of(i) is not None and time_of(i).kind == TIME:
            cells = seconds_of(moments(i), graph)
        else:
            # The numbers of a column of whole numbers that are ids as well come with these.
            cells = columns[schema.sources[i]].read(graph, "double", **told(i))
        scaled.append(graph.scaled(cells, encoder._fields[i]))
    for i in schema.sequence:
        field, column = encoder._fields[schema.shared.get(i, i)], columns[schema.sources[i]]
        _check_vocabulary(field, column.name)
        more = {"items": True, "separator": schema.separators.get(i)}
        cells = graph.look_up(
            column.read(graph, _TYPES[field.kind], **more), _TYPES[field.kind], ids_of(field)
        )
        lists.append(graph.last_items(cells, encoder.max_length))
    values, missing = ([pair[k] for pair in scaled] for k in (0, 1))
    vectors = [
        graph.vector(
            columns[schema.sources[i]].read(graph, "double", length=len(encoder._fields[i])),
            encoder._fields[i],
        )
        for i in schema.vector
    ]
    return {"ids": ids, "numeric": [*values, *missing, *vectors], "sequences": lists}


def _offset_of(zone, label, name):
    """By how much the clock of the zone of a column is ahead of UTC, if it has never been moved."""
    offset = fixed_offset(zone)
    if offset is None:
        raise ValueError(
            f"Column {label!r} holds times of zone {zone}, of which the model reads the {name}: "
            f"the clock of that zone has been moved, and a graph knows no time zones. Use "
            f'inputs="encoded", or fit on times of a fixed offset (.dt.tz_convert("UTC"), or '
            f"tz_localize(None) for the clock as it is)."
        )
    return offset


def encoder_nodes(encoder, columns, graph, prefix=PREFIX):
    """Add nodes whose values "ids", "numeric" and "sequences", behind a prefix, are those of
    `FieldEncoder.encode`, as far as the encoder has such columns.
    """
    for name, values in encoded_parts(encoder, columns, graph).items():
        if values:
            dtype = np.float32 if name == "numeric" else np.int32
            graph.side_by_side(values, dtype, f"{prefix}{name}")


def joined(networks, graph, answer=None):
    """ONNX models of encoded rows, and before them the nodes that make them of raw columns.

    Parameters
    ----------
    networks : list of (ModelProto, str)
        Each with the prefix of its rows, as given to `encoder_nodes`.
    graph : GraphBuilder
    answer : function or None, default=None
        Given a `GraphBuilder` and the names of the networks' outputs it adds the nodes of the only
        output and gives its description. None for that of the only network.
    """
    from onnx import compose, helper

    nodes, constants, outputs, last = [*graph.nodes], [*graph.constants], [], []
    for k, (model, rows) in enumerate(networks):
        # All may have values of the same name.
        prefix = f"{NETWORK}{k}."
        model = compose.add_prefix(model, prefix, rename_outputs=answer is not None)
        renamed = {f"{prefix}{name}": f"{rows}{name}" for name in ("ids", "numeric", "sequences")}
        for node in model.graph.node:
            for at, name in enumerate(node.input):
                node.input[at] = renamed.get(name, name)
        nodes += model.graph.node
        constants += model.graph.initializer
        outputs += model.graph.output
    if answer is not None:
        after = GraphBuilder(ANSWER)
        last = [answer(after, [output.name for output in outputs])]
        nodes += after.nodes
        constants += after.constants
    whole = helper.make_graph(
        nodes, "sklearn_autorec", list(graph.inputs.values()), last or outputs, constants
    )
    opsets = [*networks[0][0].opset_import, helper.make_opsetid("ai.onnx.ml", ML_VERSION)]
    found = helper.make_model(whole, opset_imports=opsets, ir_version=networks[0][0].ir_version)
    helper.set_model_props(found, {METADATA: json.dumps(metadata_of(graph))})
    return found
