"""Where the boxes of a graph stand: columns from left to right, ways of arrows between boxes."""

import dataclasses

from ._plotting import shorten

LETTER, HEIGHT = 0.085, 0.34  # of a label and of a box, inches
PADDING, GAP = 0.28, 0.6  # beside a label, and between two columns
ROW, LANE, MARGIN = 0.55, 0.3, 0.12  # of a box and of an arrow that passes, around the whole
SWEEPS = 4  # to and fro, by which columns are put in order


@dataclasses.dataclass
class Layout:
    """Places in inches, the middle of the left side being (0, 0).

    column : dict of str to int
    label : dict of str to str
    center, size : dict of str to (float, float)
    ways : dict of (str, str) to list of (float, float)
        Points through which an arrow goes, from box to box.
    """

    column: dict
    label: dict
    center: dict
    size: dict
    ways: dict
    width: float
    height: float


def layout_of(nodes, edges):
    """The layout of nodes (name, label, kind) and edges (name, name).

    Every column has the nodes of one length of the longest way from those that read nothing. An
    arrow over several columns has a lane of its own in each that it passes. Nodes and lanes of a
    column are in the order of the means of those to which they are joined.

    Raises
    ------
    ValueError
        If names stand twice or are not there, or edges go round.
    """
    names = [name for name, _, _ in nodes]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"nodes must be some, with different names, got {names!r:.200}.")
    unknown = {name for edge in edges for name in edge} - {*names}
    if unknown:
        raise ValueError(f"edges must join names of nodes, got {sorted(unknown)[0]!r}.")
    edges = list(dict.fromkeys(map(tuple, edges)))
    column = _columns(names, edges)
    label = {name: shorten(text) for name, text, _ in nodes}
    n_columns = 1 + max(column.values())
    lanes = {
        edge: [(edge, k) for k in range(column[edge[0]] + 1, column[edge[1]])] for edge in edges
    }
    items = [[name for name in names if column[name] == k] for k in range(n_columns)]
    for passed in lanes.values():
        for lane in passed:
            items[lane[1]].append(lane)
    chains = [[edge[0], *lanes[edge], edge[1]] for edge in edges]
    _put_in_order(items, chains)

    size, center, sides, x = {}, {}, [], 0.0
    height_of: dict = {}
    heights = [sum(ROW if item in column else LANE for item in own) for own in items]
    for own, height in zip(items, heights, strict=True):
        widths = [LETTER * len(label[item]) + PADDING for item in own if item in column]
        width, y = max(widths), height / 2
        sides.append((x, x + width))
        for item in own:
            slot = ROW if item in column else LANE
            height_of[item] = y - slot / 2
            if item in column:
                center[item] = x + width / 2, height_of[item]
                size[item] = LETTER * len(label[item]) + PADDING, HEIGHT
            y -= slot
        x += width + GAP
    ways = {}
    for edge, chain in zip(edges, chains, strict=True):
        # Beside narrow boxes an arrow goes straight to the side of the column: it bends between
        # columns only, where no box is.
        points = [(center[edge[0]][0] + size[edge[0]][0] / 2, height_of[chain[0]])]
        for k, item in enumerate(chain, column[edge[0]]):
            points += [(side, height_of[item]) for side in sides[k]]
        del points[1], points[-1]
        points.append((center[edge[1]][0] - size[edge[1]][0] / 2, height_of[chain[-1]]))
        ways[edge] = _distinct(points)
    return Layout(column, label, center, size, ways, x - GAP, max(heights))


def _distinct(points):
    """The points without those on the one before: the widest box of a column reaches its side, up
    to rounding.
    """
    kept = points[:1]
    for x, y in points[1:]:
        if abs(x - kept[-1][0]) + abs(y - kept[-1][1]) > 1e-6:
            kept.append((x, y))
    return kept


def _columns(names, edges):
    """The longest way from a node that reads nothing to each, by name; that order has no circle."""
    column, before = {}, {name: {s for s, e in edges if e == name} for name in names}
    while len(column) < len(names):
        ready = [name for name in names if name not in column and before[name] <= column.keys()]
        if not ready:
            rest = [name for name in names if name not in column]
            raise ValueError(f"edges must not go round, but do so through {rest!r:.200}.")
        for name in ready:
            column[name] = 1 + max((column[s] for s in before[name]), default=-1)
    return column


def _put_in_order(items, chains):
    """Sort every column by where the neighbours of its items stand, several times to and fro."""
    neighbours: dict = {item: ([], []) for own in items for item in own}
    for chain in chains:
        for start, end in zip(chain[:-1], chain[1:], strict=True):
            neighbours[end][0].append(start)
            neighbours[start][1].append(end)
    for sweep in range(2 * SWEEPS):
        side = sweep % 2
        for own in items[1:] if side == 0 else items[-2::-1]:
            place = {
                item: (k + 0.5) / len(column) for column in items for k, item in enumerate(column)
            }

            def mean(item, place=place, side=side):
                joined = [place[other] for other in neighbours[item][side]]
                return sum(joined) / len(joined) if joined else place[item]

            own.sort(key=mean)
