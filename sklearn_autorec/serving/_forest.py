"""Nodes of trees from a file: each can be reached in one way only."""

import numpy as np

from ._nodes import refuse

DEEPEST = 64  # steps from a root to a leaf: all trees of a sum are walked as deep as the deepest


def check_forest(roots, left, right, where):
    """Refuse nodes that are no trees: walks through such would take time or memory without bound.

    Parameters
    ----------
    roots : int ndarray of shape (n_trees,)
        Rising; each tree's nodes stand from its root to the next root.
    left, right : int ndarray of shape (n_nodes,)
        Children; a leaf points to itself.
    where : str
        Place for messages.
    """
    n = len(left)
    own = np.arange(n)
    if len(right) != n or (n > 0) != (len(roots) > 0) or (n and (roots[0] != 0 or roots[-1] >= n)):
        refuse(f"{where}: roots", f"from 0 to below {n}", roots)
    if not n:
        return
    if (np.diff(roots) <= 0).any():
        refuse(f"{where}: roots", "rising", roots)
    leaf = left == own
    stops = np.repeat(np.append(roots[1:], n), np.diff(np.append(roots, n)))
    inner = (left > own) & (right > own) & (left < stops) & (right < stops)
    if not (inner | (leaf & (right == own))).all():
        refuse(f"{where}: nodes", "leaves, or nodes before their children within a tree", left)
    parents = np.bincount(np.concatenate([left[inner], right[inner]]), minlength=n)
    parents[roots] += 1
    if (parents != 1).any():
        refuse(f"{where}: nodes", "children of one node each", left)
    at = roots
    for _ in range(DEEPEST + 1):
        at = at[~leaf[at]]
        if not len(at):
            return
        at = np.concatenate([left[at], right[at]])
    refuse(f"{where}: nodes", f"at most {DEEPEST} steps below their root", left)
