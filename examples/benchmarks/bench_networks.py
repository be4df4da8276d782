"""What a training step of each network costs beside one of the factorization machine.

    python examples/benchmarks/bench_networks.py [--threads 1] [--rounds 5] [--fields 10 40 100]

One forward and one backward pass of a batch, without the optimiser, on fields of 1,000 values each
with dense tables. Embeddings have 8 numbers (4 in FFM, which has as many for every other field);
perceptrons have 64-32 units, residual units 32-32, all else is at its default. Processor time of
this process, so that other processes count little. All networks take turns, round by round; the
ratio is that to FM in the same round, its median over rounds."""

import argparse
import time

import numpy as np
import torch
from _common import print_machine

from sklearn_autorec.networks import (
    AFM,
    FFM,
    FM,
    IPNN,
    OPNN,
    PIN,
    DeepCrossing,
    DeepFM,
    FiGNN,
    XDeepFM,
)
from sklearn_autorec.nn import BuildContext

N_IDS, DIM, FIELD_AWARE_DIM, HIDDEN = 1000, 8, 4, (64, 32)
NETWORKS = {
    "FM": FM(),
    "FFM": FFM(),
    "AFM": AFM(),
    "IPNN": IPNN(HIDDEN),
    "OPNN": OPNN(hidden_units=HIDDEN),
    "OPNN (kernel)": OPNN("kernel", HIDDEN),
    "PIN": PIN(hidden_units=HIDDEN),
    "DeepFM": DeepFM(HIDDEN),
    "xDeepFM": XDeepFM(hidden_units=HIDDEN),
    "Deep Crossing": DeepCrossing((32, 32)),
    "Fi-GNN": FiGNN(),
}


def module_of(name, n_fields):
    """A network in training mode on so many fields."""
    context = BuildContext(
        tuple(f"f{i}" for i in range(n_fields)),
        (N_IDS,) * n_fields,
        embedding_dim=FIELD_AWARE_DIM if name == "FFM" else DIM,
        generator=torch.Generator().manual_seed(0),
    )
    return NETWORKS[name].build(context, {}).train()


def seconds(module, batch):
    """Processor time of a forward and a backward pass."""
    start = time.process_time()
    module(*batch).square().mean().backward()
    took = time.process_time() - start
    module.zero_grad(set_to_none=True)
    return took


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--fields", type=int, nargs="+", default=[10, 40, 100])
    p.add_argument("--batch-size", type=int, default=256)
    p.add_argument("--only", nargs="+", default=list(NETWORKS), help="names, beside FM")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    print(
        f"{'fields':>6}  {'network':14} {'ms':>8} {'ratio':>7}  {'[min, max]':14} {'weights':>11}"
    )
    for n_fields in args.fields:
        names = ["FM", *(name for name in args.only if name != "FM")]
        modules = {name: module_of(name, n_fields) for name in names}
        g = torch.Generator().manual_seed(1)
        ids = torch.randint(0, N_IDS, (args.batch_size, n_fields), generator=g).int()
        nothing = torch.zeros(args.batch_size, 0)
        batch = ids, nothing, nothing.int()
        took = {name: [] for name in names}
        for turn in range(args.rounds + 1):
            for name in names:
                t = seconds(modules[name], batch)
                if turn:  # the first warms up
                    took[name].append(t)
        base = np.array(took["FM"])
        for name in names:
            ratios = np.array(took[name]) / base
            spread = f"[{ratios.min():.1f}, {ratios.max():.1f}]"
            n_weights = sum(w.numel() for w in modules[name].parameters())
            print(
                f"{n_fields:6}  {name:14} {1e3 * np.median(took[name]):8.2f} "
                f"{np.median(ratios):7.1f}  {spread:14} {n_weights:11,}"
            )


if __name__ == "__main__":
    main()
