"""Nodes of an ONNX graph that reads cells of a table: look-ups, scales, lists."""

import numpy as np

MISSING_INTEGER = -(2**63)  # a cell of an integer column that is missing
UNKNOWN_INTEGER = -(2**63) + 1  # and one that is no integer at all
ML = "ai.onnx.ml"
MOMENT = "moment"  # type of columns of times: int64, microseconds since 1970
FLOAT_MAX = float(np.finfo(np.float32).max)


class GraphBuilder:
    """Collects inputs, constants and nodes.

    Parameters
    ----------
    prefix : str
        Before the names of all values but inputs.
    """

    def __init__(self, prefix):
        self.prefix, self.n = prefix, 0
        self.inputs, self.constants, self.nodes = {}, [], []
        self.columns = {}  # what each input is, as JSON values

    def _name(self):
        self.n += 1
        return f"{self.prefix}{self.n}"

    def input(self, column):
        """The input of a column with "name" and "type", and "items" if its cells are lists, or
        "length" if they are vectors.
        """
        from onnx import TensorProto, helper

        types = {
            "string": TensorProto.STRING,
            "int64": TensorProto.INT64,
            "double": TensorProto.DOUBLE,
        }
        name = column["name"]
        axes = ["batch", f"items of {name}" if column.get("items") else column.get("length", 1)]
        self.inputs[name] = helper.make_tensor_value_info(name, types[column["type"]], axes)
        self.columns[name] = column

    def constant(self, values, dtype):
        """A constant array; its name."""
        from onnx import numpy_helper

        name = self._name()
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, kind, *inputs, domain="", output=None, **attributes):
        """The name of the output of a new node."""
        from onnx import helper

        name = output or self._name()
        self.nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def cast(self, value, dtype):
        """A value in another of numpy's dtypes."""
        from onnx import helper

        return self.node("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def side_by_side(self, values, dtype, output):
        """Values (batch, k) in a row, and a name for them."""
        values = [self.cast(value, dtype) for value in values]
        return self.node("Concat", *values, axis=1, output=output)

    def converted(self, cells, held, wanted, name):
        """Cells of a column in another type, where all of them have a meaning there.

        Raises
        ------
        ValueError
            Between text and numbers, and between times and others; names the column.
        """
        if held == wanted:
            return cells
        if MOMENT in (held, wanted):
            told = " and as ".join("times" if kind == MOMENT else kind for kind in (held, wanted))
            raise ValueError(
                f"Column {name!r} is read as {told}, but a graph has one input for it, of one "
                f'type. Use inputs="encoded", or let it be ids or times, not both '
                f"(categorical_features)."
            )
        if "string" in (held, wanted):
            raise ValueError(
                f"Column {name!r} is read as {held} and as {wanted}, but a graph has one input for "
                f'it, of one type. Use inputs="encoded", or let it be ids or numbers, not both '
                f"(categorical_features)."
            )
        unknown = self.constant(UNKNOWN_INTEGER, np.int64)
        if wanted == "double":  # what is no integer is no number either
            nan, odd = self.constant(np.nan, np.float64), self.node("LessOrEqual", cells, unknown)
            return self.node("Where", odd, nan, self.cast(cells, np.float64))
        # Beyond, floats do not tell an integer from its neighbours.
        exact = self.node("Less", self.node("Abs", cells), self.constant(2.0**53, np.float64))
        whole = self.node("And", exact, self.node("Equal", self.node("Floor", cells), cells))
        safe = self.node("Where", whole, cells, self.constant(0.0, np.float64))
        found = self.node("Where", whole, self.cast(safe, np.int64), unknown)
        missing = self.constant(MISSING_INTEGER, np.int64)
        return self.node("Where", self.node("IsNaN", cells), missing, found)

    # what cells mean
    # ---------------------------------------------------------------------------------------------

    def look_up(self, cells, kind, ids):
        """Ids int64 of cells (any shape) by a dict of values to ids; 1 for all others."""
        keys, values = list(ids), [int(v) for v in ids.values()]
        if kind == "double":
            # NaN is a key like others in some runtimes and equals nothing in others.
            missing = self.node("IsNaN", cells)
            if not keys:
                found = self.constant(1, np.int64)
            else:
                coded = self.node(
                    "LabelEncoder",
                    cells,
                    domain=ML,
                    keys_tensor=_tensor(keys),
                    values_tensor=_tensor(values),
                    default_tensor=_tensor([1.0]),
                )
                found = self.cast(coded, np.int64)
            return self.node("Where", missing, self.constant(0, np.int64), found)
        named = {"string": "keys_strings", "int64": "keys_int64s"}[kind]
        return self.node(
            "LabelEncoder",
            cells,
            domain=ML,
            values_int64s=values,
            default_int64=1,
            **{named: keys},
        )

    def scaled(self, x, scaler):
        """Scaled values and missing indicators, double (batch, 1) both, of double (batch, 1)."""
        zero = self.constant(0.0, np.float64)
        missing = self.node("IsNaN", x)
        known = self.node("Where", missing, zero, x)
        if scaler.newest is not None:
            known = self.node("Sub", self.constant(scaler.newest, np.float64), known)
        if hasattr(scaler, "grid"):
            found = self.interpolated(known, scaler.grid, scaler.score)
        else:
            found = known
            if scaler.method == "log_square":
                one = self.constant(1.0, np.float64)
                log = self.node("Log", self.node("Add", self.node("Abs", known), one))
                found = self.node("Mul", self.node("Sign", known), self.node("Mul", log, log))
            if scaler.method is not None:
                found = self.node("Sub", found, self.constant(scaler.mean, np.float64))
                found = self.node("Div", found, self.constant(scaler.scale, np.float64))
        return self.node("Where", missing, zero, found), self.cast(missing, np.float64)

    def vector(self, x, scaler):
        """What a `VectorScaler` makes of vectors, double (batch, n) to double (batch, n + 1)."""
        zero, absent = self.constant(0.0, np.float64), self.node("IsNaN", x)
        found = self.node("Sub", x, self.constant(scaler.mean, np.float64))
        found = self.node("Div", found, self.constant(scaler.scale, np.float64))
        dropped = self.node("Or", absent, self.constant(scaler.constant, bool))
        found = self.node("Where", dropped, zero, found)
        ends = [self.constant(end, np.float64) for end in (-FLOAT_MAX, FLOAT_MAX)]
        found = self.node("Min", self.node("Max", found, ends[0]), ends[1])
        axes = self.constant([1], np.int64)
        gone = self.node("ReduceMin", self.cast(absent, np.int64), axes, keepdims=1)
        return self.node("Concat", found, self.cast(gone, np.float64), axis=1)

    def interpolated(self, x, grid, score):
        """numpy.interp of double (batch, 1)."""
        if len(grid) < 2:
            return self.node("Mul", x, self.constant(0.0, np.float64))
        ends = [self.constant(end, np.float64) for end in (grid[0], grid[-1])]
        x = self.node("Min", self.node("Max", x, ends[0]), ends[1])
        # How many points are not above x, less one: the interval in which it lies.
        reached = self.cast(
            self.node("GreaterOrEqual", x, self.constant(grid[None], np.float64)), np.int64
        )
        axes, one = self.constant([1], np.int64), self.constant(1, np.int64)
        place = self.node("ReduceSum", reached, axes, keepdims=1)
        place = self.node("Sub", place, one)
        place = self.node("Min", place, self.constant(len(grid) - 2, np.int64))
        gathered = [
            self.node("Gather", self.constant(values, np.float64), place)
            for values in (grid[:-1], score[:-1], np.diff(score) / np.diff(grid))
        ]
        start, base, slope = gathered
        return self.node("Add", self.node("Mul", self.node("Sub", x, start), slope), base)

    def last_items(self, ids, n):
        """Of ids (batch, items), 0 where missing, the last n that are there, padded with 0 behind:
        int64 (batch, n).
        """
        zero, one, axis = (self.constant(value, np.int64) for value in (0, 1, 1))
        there = self.cast(self.node("Greater", ids, zero), np.int64)
        count = self.node("ReduceSum", there, self.constant([1], np.int64), keepdims=1)
        dropped = self.node("Max", self.node("Sub", count, self.constant(n, np.int64)), zero)
        place = self.node("Sub", self.node("CumSum", there, axis), one)
        place = self.node("Sub", place, dropped)
        # What is missing, and what is too early, stands at no place.
        place = self.node("Where", self.cast(there, bool), place, self.constant(-1, np.int64))
        last = self.constant([2], np.int64)
        chosen = self.node(
            "Equal", self.node("Unsqueeze", place, last), self.constant(np.arange(n), np.int64)
        )
        spread = self.node("Mul", self.cast(chosen, np.int64), self.node("Unsqueeze", ids, last))
        return self.node("ReduceSum", spread, self.constant([1], np.int64), keepdims=0)


def _tensor(values):
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(values, np.float64))
