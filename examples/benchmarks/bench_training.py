"""Training speed of CTRClassifier.fit beside a bare torch loop and DeepCTR-Torch, interleaved
round by round.

    python examples/benchmarks/bench_training.py --data-home DIR [--rounds 5] [--network \\
        deepfm|fm] [--device cuda]

DeepFM: embedding 10, hidden 400-400-400, batch norm, dropout 0.2, L2 0.05 on embeddings, Adam,
batch 4096. Our figure is the whole time of the epochs inside ``fit`` (skorch net, hooks, history,
snapshots of the best epoch), taken between the first and the last epoch's end. DeepCTR-Torch joins
where it is installed (pip install deepctr-torch).
"""

import numpy as np
import torch
from _common import (
    BareDeepFM,
    BareFM,
    BareLoop,
    EpochClock,
    PoolDropout,
    frappe,
    parser,
    print_machine,
    ratio_of,
    timed,
)

from sklearn_autorec import CTRClassifier
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import FM, DeepFM
from sklearn_autorec.preprocessing import FieldEncoder

HIDDEN = (400, 400, 400)


def ours(X, y, network, args, epochs, **options):
    """Rows per second of the epochs after the first, inside ``fit``."""
    clock = EpochClock()
    model = CTRClassifier(
        network=network,
        embedding_dim=10,
        embedding_l2=0.05,
        embedding_init=1e-4,
        batch_size=args.batch_size,
        early_stopping=False,
        max_epochs=epochs + 1,
        random_state=0,
        device=args.device,
        **options,
    )
    model.set_callbacks(clock).fit(X, y)
    return len(X) * epochs / (clock.ends[epochs] - clock.ends[0])


def deepctr(X, y, sizes, args, deep):
    """A function that trains DeepCTR-Torch's net one epoch, or None where it is not installed."""
    try:
        from deepctr_torch.inputs import SparseFeat
        from deepctr_torch.models import DeepFM as PeerDeepFM
    except ImportError:
        return None
    columns = [
        SparseFeat(name, size, embedding_dim=10)
        for name, size in zip(X.columns, sizes, strict=True)
    ]
    hidden = HIDDEN if deep else ()
    model = PeerDeepFM(
        columns,
        columns,
        dnn_hidden_units=hidden,
        l2_reg_linear=0.025,
        l2_reg_embedding=0.025,
        l2_reg_dnn=0,
        dnn_dropout=0.2,
        dnn_use_bn=deep,
        device="cpu",
    )
    model.compile(torch.optim.Adam(model.parameters(), lr=1e-3), "binary_crossentropy", metrics=[])
    inputs = {name: X[name].to_numpy() for name in X.columns}
    return lambda: model.fit(
        inputs, y, batch_size=args.batch_size, epochs=1, verbose=0, shuffle=True
    )


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--network", choices=["deepfm", "fm"], default="deepfm")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--batch-size", type=int, default=4096)
    p.add_argument("--device", default="cpu")
    p.add_argument("--no-peers", action="store_true")
    p.add_argument(
        "--no-flush",
        action="store_true",
        help="leave denormal numbers to the processor, as peers do",
    )
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    # Favours the bare loop, which does nothing against denormal numbers.
    torch.set_flush_denormal(not args.no_flush)
    print_machine()
    X, y = frappe(args.data_home)["train"]
    encoder = FieldEncoder()
    table = encoder.fit_encode(X)
    sizes = encoder.n_ids_
    offsets = np.array([0, *np.cumsum(sizes)[:-1]])
    ids = torch.from_numpy(table.ids + offsets).to(args.device)
    target = torch.from_numpy(y.astype(np.float32)).to(args.device)
    deep = args.network == "deepfm"

    def bare(dropout=None):
        model = BareDeepFM(sizes, 10, HIDDEN, dropout) if deep else BareFM(sizes, 10)
        loop = BareLoop(model.to(args.device), ids, target, args.batch_size)
        return lambda: len(y) / timed(loop.epoch)

    network = DeepFM(hidden_units=HIDDEN) if deep else FM()
    epochs = 1 if deep and args.device == "cpu" else 4
    runs = {"bare loop, pooled dropout": bare(PoolDropout)} if deep else {}
    runs["bare loop, torch's dropout" if deep else "bare loop"] = bare(torch.nn.Dropout)
    runs["CTRClassifier.fit"] = lambda: ours(X, y, network, args, epochs)
    runs["CTRClassifier.fit, search=AutoFIS() epochs"] = lambda: ours(
        X, y, network, args, epochs, search=AutoFIS()
    )
    peer = (
        None
        if args.no_peers or args.device != "cpu"
        else deepctr(X, y, (X.max() + 1).tolist(), args, deep)
    )
    if peer is not None:
        runs["DeepCTR-Torch fit"] = lambda: len(y) / timed(peer)
    for name in runs:
        if name.startswith("bare"):
            runs[name]()
    rates = {name: [] for name in runs}
    for k in range(args.rounds):
        for name, run in runs.items():
            rates[name].append(run())
        print(
            f"round {k + 1}: " + ", ".join(f"{name} {r[-1]:,.0f}" for name, r in rates.items()),
            flush=True,
        )
    base = next(iter(rates.values()))
    print(
        f"\n{args.network}, batch {args.batch_size}, {args.device}: rows/s median [min, max], "
        f"ratio to the first line, median [min, max]"
    )
    for name, r in rates.items():
        print(
            f"{name:45s} {np.median(r):10,.0f} [{min(r):,.0f}, {max(r):,.0f}]   {ratio_of(r, base)}"
        )


if __name__ == "__main__":
    main()
