"""What the tests of model files share."""

from sklearn_autorec.networks import DeepFM

OPTIONS = {"embedding_dim": 4, "max_epochs": 1, "random_state": 0, "device": "cpu"}

SMALL = DeepFM(hidden_units=(8,))


def state(node, *path):
    """A value inside the header: names lead into parameters, state and dicts."""
    for name in path:
        if node.get("kind") == "dict":
            (node,) = (v for k, v in node["items"] if k == name)
        else:
            node = (node["state"] if name in (node["state"] or ()) else node["params"])[name]
    return node
