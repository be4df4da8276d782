"""What the tests of refused model files share."""

from save_cases import state

from sklearn_autorec.serving._container import pack, unpack


def forged(data, change):
    """The file with a changed header or changed arrays, and a checksum that fits."""
    model, arrays = unpack(data)
    arrays = [a.copy() for a in arrays]
    change(model, arrays)
    return b"".join(bytes(part) for part in pack(model, arrays))


def edit(*path, key=None, value=None):
    """A change of one value of the header."""

    def change(model, arrays):
        *above, last = path
        node = state(model, *above)
        if node.get("kind") == "dict":
            (pair,) = (pair for pair in node["items"] if pair[0] == last)
            pair[1] = value
        else:
            place = node["state"] if last in (node["state"] or ()) else node["params"]
            place[last] = value

    return change


def dicts(**items):
    return {"kind": "dict", "items": [list(pair) for pair in items.items()]}
