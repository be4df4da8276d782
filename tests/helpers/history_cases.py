"""What the tests of networks share that read a history beside an item."""

import numpy as np
import pandas as pd
import torch

from sklearn_autorec.engine._building import carry, check_field_axes
from sklearn_autorec.nn import BuildContext, InputSelection
from sklearn_autorec.preprocessing import FieldEncoder

OPTIONS = {
    "embedding_dim": 8,
    "embedding_init": 0.1,
    "lr": 0.01,
    "batch_size": 128,
    "early_stopping": False,
    "random_state": 0,
    "device": "cpu",
}
SHORT = {**OPTIONS, "max_epochs": 1, "search_epochs": 1}
ENCODER = FieldEncoder(shared_vocabularies={"history": "item"}, max_length=8)
D = 3


def context(sequences=((6, 3), (7, 2)), shared=(0, None), **changes):
    """Of two columns of ids, a number, a history of the first one's and another list."""
    return BuildContext(
        ("item", "b", "x", "history", "tags"),
        (6, 4),
        n_numeric=1,
        sequences=sequences,
        shared=shared,
        embedding_dim=D,
        embedding_init=1.0,
        generator=torch.Generator().manual_seed(0),
        **changes,
    )


def vectors_of_kept_fields(network, fields, inputs, move=lambda part: None):
    """Vectors of all fields of a network, and those of some by the weights that are taken over,
    (B, F, d) each; ``move`` changes its part for lists before.
    """
    c = context()
    check_field_axes(network, c)
    whole = network.build(c, {}).eval()
    move(whole.sequence)
    selection = InputSelection(c, fields)
    module = network.build(selection.narrow(c), {"selection": selection}).eval()
    state = carry(whole.state_dict(), selection, c, module)
    assert state.keys() == module.state_dict().keys()
    module.load_state_dict(state)
    return whole.embed(inputs), module.embed(selection(inputs))


def check_odd_rows(model, X):
    """Rows are predicted alone as among others, and so are empty lists and new values."""
    p = model.predict_proba(X)
    for i in (0, 1, 5):
        np.testing.assert_array_equal(model.predict_proba(X.iloc[[i]]), p[[i]])
    odd = X[:4].assign(history=[[], None, [-1, -2], [None]], item=[-1, pd.NA, 3, pd.NA])
    assert np.isfinite(model.predict_proba(odd)).all()
