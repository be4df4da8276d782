"""The service of examples/serve_http.py under load on loopback: single rows and batches, while the
model is replaced five times.

Run: ``python examples/benchmarks/bench_http.py``. The server is a process of its own; clients keep
their connections and send the next request when they have the answer. Every answer is compared, bit
for bit, with what its model gives in this process. Takes about a minute."""

import argparse
import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _common import print_machine

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.serving import load, save

SERVICE = Path(__file__).parents[1] / "serve_http.py"
RELOADS = 5
MODELS = {
    "DeepFM alone": {"network": "deepfm", "wide": None, "target_statistics": False},
    "default": {},
}


def table(rows):
    """Clicks over ten columns of up to 1,000 values and two numbers."""
    X, y, _ = make_ctr(
        rows, n_fields=10, cardinality=[1000] * 3 + [50] * 7, n_numeric=2, pairs=3, random_state=0
    )
    return X, y


def fitted(X, y, folder, options):
    """Two models of the same rows, as files, and their answers: digest -> probabilities."""
    files, expected = [], {}
    for seed in (0, 1):
        path = folder / f"{seed}.model"
        save(CTRClassifier(max_epochs=1, random_state=seed, **options).fit(X, y), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append(path)
        expected[digest] = load(path).predict_proba(X)
    return files, expected


def replace(source, target):
    """Put a copy of a file in the place of another, all at once."""
    copy = target.with_suffix(".new")
    copy.write_bytes(source.read_bytes())
    os.replace(copy, target)


class Client:
    """A connection that is kept; ``HTTP/1.1`` without anything that costs the load test time."""

    def __init__(self, port):
        self.port = port

    async def connect(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def ask(self, method, path, body=b""):
        """Status and body of the answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        status, *fields = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        length = next(int(f[15:]) for f in fields if f.lower().startswith("content-length:"))
        return int(status.split()[1]), await self.reader.readexactly(length)


async def load_of(port, n_clients, requests, seconds, stop=None):
    """Ask by n clients for some seconds, or until ``stop`` is set.

    Returns
    -------
    list of (seconds, request, status, answer)
    """
    done = []
    end = time.perf_counter() + seconds

    async def work(k):
        client = await Client(port).connect()
        turn = k
        while time.perf_counter() < end if stop is None else not stop.is_set():
            which = turn % len(requests)
            start = time.perf_counter()
            status, answer = await client.ask("POST", "/predict", requests[which])
            done.append((time.perf_counter() - start, which, status, answer))
            turn += n_clients
        client.writer.close()

    await asyncio.gather(*(work(k) for k in range(n_clients)))
    return done


async def reloads(port, files, served, stop):
    """Replace the model five times, each time waiting until the new one answers; ms each took."""
    client, times = await Client(port).connect(), []
    for k in range(RELOADS):
        await asyncio.sleep(0.5)
        start = time.perf_counter()
        replace(files[(k + 1) % 2], served)
        version = k + 1
        while version == k + 1:
            await asyncio.sleep(0.02)
            version = json.loads((await client.ask("GET", "/health"))[1])["model"]["version"]
        times.append(1e3 * (time.perf_counter() - start))
    stop.set()
    return times


def checked(done, sizes, expected):
    """Lost requests, wrong answers, and how many each model gave."""
    lost = [entry for entry in done if entry[2] != 200]
    wrong, by_model = 0, dict.fromkeys(expected, 0)
    for _, which, status, answer in done:
        if status == 200:
            answer = json.loads(answer)
            by_model[answer["model"]] += 1
            size = sizes[which]
            rows = expected[answer["model"]][size * which : size * (which + 1)]
            wrong += not (np.reshape(answer["probabilities"], rows.shape) == rows).all()
    return len(lost), wrong, list(by_model.values())


def cpu_seconds(pid):
    """Processor time of a process so far; nan where the system does not tell (only Linux does)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return np.nan
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(name, n_clients, size, done, seconds, cpu, expected, more=""):
    n = max(which for _, which, _, _ in done) + 1
    lost, wrong, by_model = checked(done, [size] * n, expected)
    p50, p99 = np.percentile([entry[0] for entry in done], [50, 99]) * 1e3
    print(
        f"{name:<14}{n_clients:>8}{size:>6}{len(done):>10,}{len(done) / seconds:>10,.0f}"
        f"{len(done) * size / seconds:>10,.0f}{p50:>8.2f}{p99:>8.2f}{1e3 * cpu / len(done):>8.2f}"
        f"{lost:>6}{wrong:>7}  {more}",
        flush=True,
    )
    if lost or wrong or (more and not all(by_model)):
        raise SystemExit(f"lost {lost}, wrong {wrong}, answers by model {by_model}")


def run(name, options, args, X, y):
    """One server, all its loads."""
    rows = json.loads(X.to_json(orient="records", double_precision=15))
    # What JSON says is what is asked, here as there.
    X = pd.DataFrame([list(row.values()) for row in rows], columns=X.columns, dtype=object)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        files, expected = fitted(X, y, folder, options)
        served = folder / "served.model"
        replace(files[0], served)
        command = [sys.executable, str(SERVICE), str(served), "--port", "0", "--interval", "0.1"]
        command += ["--threads", str(args.threads)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            port = int(server.stdout.readline().rsplit(":", 1)[1])
            singles = [json.dumps(row).encode() for row in rows[:2000]]
            batches = [
                json.dumps(rows[k : k + args.batch]).encode()
                for k in range(0, len(rows) - args.batch + 1, args.batch)
            ]
            asyncio.run(load_of(port, 4, singles, 1.0))  # code that was not run yet is slower
            for requests, size in ((singles, 1), (batches, args.batch)):
                for n in args.clients:
                    start, cpu = time.perf_counter(), cpu_seconds(server.pid)
                    done = asyncio.run(load_of(port, n, requests, args.seconds))
                    spent = time.perf_counter() - start, cpu_seconds(server.pid) - cpu
                    report(name, n, size, done, *spent, expected)
                start, cpu = time.perf_counter(), cpu_seconds(server.pid)
                done, times = asyncio.run(while_reloading(port, 8, requests, files, served))
                spent = time.perf_counter() - start, cpu_seconds(server.pid) - cpu
                told = f"{RELOADS} reloads, {np.median(times):.0f} ms each"
                report(name, 8, size, done, *spent, expected, told)
                replace(files[0], served)
                asyncio.run(settled(port, hashlib.sha256(files[0].read_bytes()).hexdigest()))
        finally:
            server.terminate()
            server.wait()


async def while_reloading(port, n_clients, requests, files, served):
    stop = asyncio.Event()
    return await asyncio.gather(
        load_of(port, n_clients, requests, 0, stop), reloads(port, files, served, stop)
    )


async def settled(port, digest):
    client = await Client(port).connect()
    while json.loads((await client.ask("GET", "/health"))[1])["model"]["digest"] != digest:
        await asyncio.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=100, help="rows of a batch")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--threads", type=int, default=1, help="of the server that predict")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print_machine()
    X, y = table(args.rows)
    print(
        f"{'model':<14}{'clients':>8}{'rows':>6}{'requests':>10}{'req/s':>10}{'rows/s':>10}"
        f"{'p50 ms':>8}{'p99 ms':>8}{'CPU ms':>8}{'lost':>6}{'wrong':>7}"
    )
    for name, options in MODELS.items():
        run(name, options, args, X, y)


if __name__ == "__main__":
    main()
