"""What packed tables refuse, and that none is ever unpacked."""

import itertools

import numpy as np
import pytest
import torch
from packed_cases import (
    TABLES,
    TRIED,
    all_rows,
    by_columns,
    by_prefixes,
    context,
    inputs_of,
    numeric_weight,
    places,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from sklearn_autorec.nn import FORMS, Inputs, PackedEmbedding, pack_table

pytestmark = pytest.mark.usefixtures("equal_rows")


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation has made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **kwargs or {})
        if not func.is_view:
            sizes = [t.numel() for t in tree_flatten(made)[0] if isinstance(t, torch.Tensor)]
            self.elements = max(self.elements, *sizes, 0)
        return made


@pytest.mark.parametrize("form", TRIED)
@pytest.mark.parametrize("training", [True, False])
def test_forward_never_unpacks_the_table(form, training):
    rows, width = 200_000, 8
    c = context(width, (rows - 100,), ((100, 3),), 0)
    table = np.zeros((rows, width), np.float32)
    table[::50, :2] = 1.5
    module = pack_table(table, c, None, [form]).train(training)
    x = Inputs(
        torch.tensor([[0], [50], [rows - 101]]), torch.zeros(3, 0), torch.tensor([[0, 2, 99]] * 3)
    )
    with Largest() as largest:
        found = module(x)
    assert 0 < largest.elements < 5000
    np.testing.assert_array_equal(found[:2, 0, :3].detach(), [[1.5, 1.5, 0]] * 2)
    with Largest() as largest:
        table * 2
        torch.zeros(rows, width)
    assert largest.elements == rows * width  # the mode does see such tensors


def arrays_of(form, width=12):
    table = {"columns": by_columns, "prefixes": by_prefixes}.get(form, TABLES["density 0.2"])(width)
    module = pack_table(table, context(width), numeric_weight(width), [form])
    return {name: t.numpy().copy() for name, t in module.state_dict().items()}


@pytest.mark.parametrize("form", TRIED)
def test_every_array_is_needed_with_its_type_and_dimensions(form):
    cls, c = FORMS[form], context(12)
    good = arrays_of(form)
    cls.from_arrays(c, good).check()
    assert set(good) == {"values", "numeric_weight", *cls.buffer_types}
    for name, array in good.items():
        broken = [{k: v for k, v in good.items() if k != name}]
        broken += [
            {**good, name: array.astype(np.float64)},
            {**good, name: array[None]},
            {**good, name: array[..., 0]},
        ]
        for arrays in [*broken, {**good, "more": array}]:
            with pytest.raises(
                ValueError, match=f"a packed table of form '{form}' needs the arrays"
            ):
                cls.from_arrays(c, arrays)
        for short in (array[:-1], array[:0]):
            with pytest.raises(
                ValueError, match="the packed table's '.*' does not fit what is stored"
            ):
                cls.from_arrays(c, {**good, name: short}).check()
    for other, name in itertools.product(TRIED, good):
        if other != form and name in FORMS[other].buffer_types:
            continue
        if other != form:
            with pytest.raises(ValueError, match="needs the arrays"):
                FORMS[other].from_arrays(c, good)


@pytest.mark.parametrize("form", TRIED)
def test_random_changes_of_indices_are_refused_or_harmless(form):
    cls, c, x = FORMS[form], context(12), inputs_of(context(12))
    good, rng = arrays_of(form), np.random.default_rng(0)
    names = [*cls.buffer_types] or ["values"]
    refused = 0
    for k in range(300):
        arrays = {name: array.copy() for name, array in good.items()}
        array = arrays[names[k % len(names)]].reshape(-1)
        at = rng.integers(len(array))
        kind = rng.integers(3)
        if array.dtype.kind == "f":
            arrays["values"] = array[: rng.integers(len(array))]
        elif kind == 0:
            array[at] = rng.choice([np.iinfo(array.dtype).min, np.iinfo(array.dtype).max, 0])
        elif kind == 1:
            array[at] ^= 1 << rng.integers(8 * array.itemsize - 1)
        else:
            array[at] = max(int(array[at]) - 1, 0)
        try:
            module = cls.from_arrays(c, arrays)
            module.check()
        except ValueError as error:
            assert "packed table" in str(error)
            refused += 1
            continue
        # What passes can be read everywhere, and reads only what is stored.
        assert np.isfinite(all_rows(module)).all() and module(x).isfinite().all()
        assert places(module).max(initial=-1) < len(module.values)
    assert refused > 30 if form == "sparse" else refused > 150


def test_packed_embedding_is_abstract():
    c = context(4)
    module = PackedEmbedding(
        c, {"values": np.zeros(0, np.float32), "numeric_weight": numeric_weight(4)}
    )
    for call in (module.check, lambda: module(inputs_of(c))):
        with pytest.raises(NotImplementedError):
            call()
