"""A model over HTTP: rows as JSON in, probabilities out.

    pip install "sklearn-autorec[serve]"
    python examples/serve_http.py clicks.model
    curl localhost:8000/predict -d '{"user": "ann", "item": 7, "price": 2.5}'
    curl localhost:8000/predict -d '[{"user": "ann", ...}, {"user": "bob", ...}]'

``POST /predict`` takes an object (a row) or a list of objects; a value may be null, a column may
not be left out. Rows that the model cannot take are refused with status 422, row, column and
reason. ``GET /health`` says which model answers, ``GET /model`` what its columns take, ``GET
/metrics`` counts for Prometheus.

The file is watched: when it is replaced (``save(model, path)`` does that at once), the new model is
loaded beside the old one and then takes over between two requests; none is lost. If it cannot be
loaded, or takes other columns, the old one goes on, and health and metrics say so.

One process with a few threads: start several for several cores, behind whatever shares out
requests. Model files are data and may come from anyone; requests are bounded by ``--max-rows`` and
``--max-bytes``."""

import argparse
import asyncio
import json
import logging
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import torch
from _http_metrics import Metrics
from _http_models import WatchedModel
from _http_rows import RowsError

from sklearn_autorec.exceptions import NonFinitePredictionError

try:
    import uvicorn
    from fastapi import FastAPI, Request, Response
except ImportError as error:
    raise ImportError('The service needs an extra: pip install "sklearn-autorec[serve]"') from error

# So many rows are predicted where they were read: handing them to another thread takes longer.
FEW_ROWS = 8
LOG = logging.getLogger("serve_http")


class Refused(Exception):
    """A request that gets no prediction: its status, what is wrong with it, a word for metrics."""

    def __init__(self, status, detail, reason):
        self.status, self.detail, self.reason = status, detail, reason


def create_app(watched, *, threads=1, max_rows=10_000, max_bytes=2**24):
    """The service as a FastAPI application.

    Parameters
    ----------
    watched : WatchedModel
        Looked after while the application runs.
    threads : int, default=1
        Of prediction; requests beyond wait.
    max_rows : int, default=10_000
        Of one request.
    max_bytes : int, default=2**24
        Of one request's body.

    Returns
    -------
    fastapi.FastAPI
    """
    metrics = Metrics()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")

    @asynccontextmanager
    async def lifespan(_app):
        watched.start()
        yield
        watched.stop()
        pool.shutdown()

    app = FastAPI(title="Predictions", lifespan=lifespan)

    @app.post("/predict", summary="An object is a row, a list of objects a batch of rows")
    async def predict(request: Request):
        body = await body_of(request, max_bytes)
        start = time.perf_counter()
        n_rows, reason = 0, None
        try:
            if body is None:
                raise Refused(413, f"The body has more than {max_bytes:,} bytes.", "too large")
            rows, single = rows_of(body, max_rows)
            n_rows, served = len(rows), watched.served
            if n_rows <= FEW_ROWS:
                found = predictions(served, rows)
            else:
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(pool, predictions, served, rows)
            status, answer = 200, answer_of(served, found, single)
        except Refused as refused:
            status, reason, answer = refused.status, refused.reason, {"detail": refused.detail}
        metrics.answered(time.perf_counter() - start, n_rows, status, reason)
        return as_json(answer, status)

    @app.get("/health")
    def health():
        served = watched.served
        answer = {
            "status": "ok" if watched.error is None else "old model",
            "model": {
                "file": str(served.path),
                "digest": served.digest,
                "version": served.version,
                "loaded_at": served.loaded_at,
            },
            "reload_error": watched.error,
        }
        return as_json(answer, 200)

    @app.get("/model")
    def model():
        served = watched.served
        columns = {column.name: column.takes for column in served.reader.columns}
        answer = {"digest": served.digest, "columns": columns, "classes": served.classes}
        return as_json(answer, 200)

    @app.get("/metrics")
    def counts():
        return Response(metrics.text(watched), media_type="text/plain; version=0.0.4")

    return app


async def body_of(request, max_bytes):
    """The body of a request; None if it is too long, of which no more than that is kept."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        parts.append(part)
        if size > max_bytes:
            return None
    return b"".join(parts)


def rows_of(body, max_rows):
    """Rows of a body, and whether it is a single one."""
    try:
        rows = json.loads(body, parse_constant=no_json, object_pairs_hook=of_names)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body cannot be read as JSON: {error}", "no JSON") from error
    if isinstance(rows, dict):
        return [rows], True
    if not isinstance(rows, list) or not rows:
        detail = "The body must be an object (a row) or a list of one object or more."
        raise Refused(422, detail, "no rows")
    if len(rows) > max_rows:
        detail = f"The body has {len(rows):,} rows, at most {max_rows:,} are taken at once."
        raise Refused(413, detail, "too large")
    return rows, False


def no_json(name):
    """NaN and Infinity, which Python reads but which are no JSON."""
    raise ValueError(f"{name} is not in JSON; give null for a missing value")


def of_names(pairs):
    """An object, in which each name stands once; Python would take the last of them."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"an object has {twice!r:.100} twice")
    return found


def predictions(served, rows):
    """The model's answers; Refused for rows that it cannot take."""
    try:
        return served.predict(rows)
    except RowsError as error:
        detail = [
            {
                "loc": [
                    part for part in ("body", wrong["row"], wrong["column"]) if part is not None
                ],
                "msg": wrong["message"],
                "type": "value_error",
            }
            for wrong in error.errors
        ]
        raise Refused(422, detail, "rows") from error
    except NonFinitePredictionError as error:
        LOG.error("%s", error)
        raise Refused(500, str(error), "not finite") from error
    except (TypeError, ValueError) as error:  # what only the steps of a pipeline know
        LOG.warning("%s", error)
        raise Refused(422, f"The model refuses the rows: {error}", "rows") from error
    except Exception as error:
        LOG.exception("A prediction failed.")
        raise Refused(500, f"{type(error).__name__}: {error}", "failed") from error


def answer_of(served, found, single):
    """The body of an answer."""
    name = "predictions" if served.classes is None else "probabilities"
    answer = {} if served.classes is None else {"classes": served.classes}
    return {**answer, name: found[0] if single else found, "model": served.digest}


def as_json(answer, status):
    """A response; floats are written with all their digits."""
    return Response(json.dumps(answer), status, media_type="application/json")


def listen(host, port):
    """A listening socket, here rather than in uvicorn, so that it can say which port is free."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )[0]
    # With the protocol, since asyncio sends answers at once (TCP_NODELAY) only where it is told;
    # they would wait 40 ms for the acknowledgement of their own head otherwise.
    listening = socket.socket(family, kind, protocol)
    if sys.platform != "win32":  # there it would allow two servers on one port
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(address)
    listening.listen()
    return listening


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="file that sklearn_autorec.serving.save wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument("--threads", type=int, default=1, help="that predict")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between looks at file")
    parser.add_argument("--max-rows", type=int, default=10_000, help="of one request")
    parser.add_argument("--max-bytes", type=int, default=2**24, help="of the body of a request")
    parser.add_argument(
        "--max-connections", type=int, default=None, help="more at a time are answered with 503"
    )
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)  # rows are few: threads of torch would only wait for each other
    watched = WatchedModel(args.model, args.interval)
    app = create_app(
        watched, threads=args.threads, max_rows=args.max_rows, max_bytes=args.max_bytes
    )
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, limit_concurrency=args.max_connections
    )
    with listen(args.host, args.port) as listening:
        host, port = listening.getsockname()[:2]
        print(f"{args.model} at http://{host}:{port}", flush=True)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
