"""Masks as text, and tables of which some elements stay zero."""

import base64
import copy
import json

import numpy as np
import pytest
import torch

from sklearn_autorec.engine import EncodedTensors, FieldNet, TrainingPlan, train
from sklearn_autorec.nn import (
    BinaryLogLoss,
    BuildContext,
    FieldEmbedding,
    FieldNetwork,
    Inputs,
    MaskedEmbedding,
    PackedEmbedding,
    mask_from_text,
    mask_to_text,
)

N_IDS, SEQUENCES = (30, 6), ((12, 3),)


def context(sparse=False, seed=0):
    return BuildContext(
        ("a", "b", "n", "s"),
        N_IDS,
        1,
        SEQUENCES,
        embedding_dim=5,
        generator=torch.Generator().manual_seed(seed),
        sparse_gradients=sparse,
        embedding_init=0.5,
    )


def random_mask(density=0.4, seed=0):
    return np.random.default_rng(seed).random((48, 5)) < density


def rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return EncodedTensors(
        torch.from_numpy(np.column_stack([rng.integers(0, k, n) for k in N_IDS]).astype(np.int32)),
        torch.from_numpy(np.column_stack([rng.normal(size=n), np.zeros(n)]).astype(np.float32)),
        torch.from_numpy(rng.integers(0, 12, (n, 3)).astype(np.int32)),
        torch.from_numpy(rng.integers(0, 2, n).astype(np.float32)),
    )


# text
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (5, 0), (1, 1), (3, 7), (8, 8), (100, 13)])
def test_masks_survive_text(shape):
    rng = np.random.default_rng(0)
    for density in (0, 0.3, 1):
        mask = rng.random(shape) < density
        text = json.loads(json.dumps(mask_to_text(mask)))
        found = mask_from_text(text)
        assert found.dtype == bool and found.shape == shape
        np.testing.assert_array_equal(found, mask)
        assert len(base64.b64decode(text["bits"])) == -(-mask.size // 8)
    np.testing.assert_array_equal(mask_from_text(mask_to_text(mask.astype(int))), mask)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"shape": [3, 8]}, "needs 3 bytes, got 2"),
        ({"shape": [3, 2]}, "needs 1 bytes, got 2"),
        ({"shape": [10**9, 10**9]}, "bytes, got 2"),
        ({"shape": [-3, -5]}, "two sizes"),
        ({"shape": [15]}, "two sizes"),
        ({"shape": [3.0, 5]}, "two sizes"),
        ({"shape": [True, 15]}, "two sizes"),
        ({"shape": None}, "two sizes"),
        ({"bits": 5}, "a string"),
        ({"bits": "AA"}, "padding"),
        ({"bits": "A*A="}, "base64|alphabet"),
        ({"bits": ""}, "needs 2 bytes, got 0"),
    ],
)
def test_texts_that_are_no_masks(change, message):
    with pytest.raises(ValueError, match=message):
        mask_from_text({**mask_to_text(random_mask()[:3]), **change})


@pytest.mark.parametrize("text", [None, "AA==", [3, 5], {}, {"shape": [0, 5]}])
def test_other_values_are_no_masks(text):
    with pytest.raises(ValueError, match="a mask must be a dict of 'shape'"):
        mask_from_text(text)


# tables
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_masked_elements_read_as_zero(sparse):
    mask = random_mask()
    module, plain = MaskedEmbedding(context(sparse), mask), FieldEmbedding(context(sparse))
    assert torch.equal(module.weight, plain.weight) and "mask" not in module.state_dict()
    with torch.no_grad():
        plain.weight *= torch.from_numpy(mask)
    x = Inputs(*rows().inputs.values())
    assert torch.equal(module(x), plain(x)) and not torch.equal(
        plain(x), FieldEmbedding(context(sparse))(x)
    )
    module(x).square().sum().backward()
    gradient = module.weight.grad.to_dense() if sparse else module.weight.grad
    assert (gradient[torch.from_numpy(~mask)] == 0).all() and (
        gradient[torch.from_numpy(mask)] != 0
    ).any()
    everything, nothing = (
        MaskedEmbedding(context(), np.full((48, 5), kept)) for kept in (True, False)
    )
    assert torch.equal(everything(x), FieldEmbedding(context())(x))
    assert (nothing(x)[:, [0, 1, 3]] == 0).all() and (nothing(x)[:, 2] != 0).any()


def test_masks_of_other_tables_are_refused():
    for shape in ((48, 4), (47, 5), (5, 48)):
        with pytest.raises(
            ValueError, match=r"the mask has shape .*, the embedding table of this data \(48, 5\)"
        ):
            MaskedEmbedding(context(), np.ones(shape, bool))


class Sum(FieldNetwork):
    def logits(self, e, inputs):
        return e.sum(1).tanh().sum(1, keepdim=True)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_training_moves_what_is_kept_alone(sparse, averaging):
    mask, data = random_mask(), rows()
    module = Sum(context(sparse), {"embedding": MaskedEmbedding(context(sparse), mask)})
    before = module.embedding.weight.detach().clone()
    net = FieldNet(module, BinaryLogLoss(), lr=0.05, embedding_l2=0.1, weight_decay=0.01)
    plan = TrainingPlan(
        epochs=4, batch_size=64, lr=0.05, embedding_l2=0.1, weight_decay=0.01, averaging=averaging
    )
    result = train(net, data, plan)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    embedding = module.embedding.eval()
    x = Inputs(*data.inputs.values())
    packed = embedding.compact().eval()
    assert isinstance(packed, PackedEmbedding)
    np.testing.assert_array_equal(packed.mask(), mask)
    torch.testing.assert_close(packed(x), embedding(x), rtol=0, atol=1e-6)
    kept = torch.from_numpy(mask)
    assert (embedding.weight[kept] != before[kept]).float().mean() > 0.9
    for f, n in enumerate(N_IDS):
        ids = torch.arange(n, dtype=torch.int32)
        vectors = packed.lookup(ids, ids + sum(N_IDS[:f]), f)
        assert (vectors[~kept[sum(N_IDS[:f]) :][:n]] == 0).all()


@pytest.mark.parametrize("density", [0, 0.1, 0.5, 1])
def test_compact_equals_forward(density):
    module = MaskedEmbedding(context(), random_mask(density)).eval()
    packed = copy.deepcopy(module).compact().eval()
    x = Inputs(*rows().inputs.values())
    torch.testing.assert_close(packed(x), module(x), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(packed.mask(), random_mask(density))
    assert sum(p.numel() for p in packed.parameters()) <= sum(
        p.numel() for p in module.parameters()
    )


@pytest.mark.parametrize("n_ids, n_numeric", [((), 2), ((1,), 0)])
def test_compact_of_tables_without_rows_to_speak_of(n_ids, n_numeric):
    c = BuildContext(
        ("a",) * (len(n_ids) + n_numeric), n_ids, n_numeric, embedding_dim=3, embedding_init=1.0
    )
    module = MaskedEmbedding(c, np.zeros((sum(n_ids), 3), bool))
    x = Inputs(
        torch.zeros(4, len(n_ids), dtype=torch.int32),
        torch.ones(4, 2 * n_numeric),
        torch.zeros(4, 0).int(),
    )
    assert torch.equal(module.compact()(x), module(x)) and module.compact().mask().shape == (
        sum(n_ids),
        3,
    )
