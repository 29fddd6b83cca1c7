"""What an operator sees of a server: a log of JSON lines, and metrics in Prometheus's format."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import logging
import logging.handlers
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TextIO

LOG = logging.getLogger("kreid.serving")
# Faults of the server; all other codes are the client's or the network's.
SERVER_FAULTS = ("INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED")

_LOG_ROOM = 10_000  # lines that wait for a slow reader of the log
_LAST_LINES_S = 1.0  # for writing them at the end
_SHOWN = 8  # inputs and dimensions of a request in the log
_NAME_LENGTH = 64
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclasses.dataclass
class Call:
    """What is known of one call; filled while it is answered.

    Args:
        method: of the service, such as `"Predict"`.
        peer: the client's address.
        signature: that the request names; empty before it is read.
        known: whether the model has this signature.
        version: that answers, or `None` before it is found.
        fingerprint: of that version.
        shapes: of the inputs, by name.
        rows: tracklets of the request.
        frames: real frames or images of the request.
        unreadable: images that could not be decoded.
        code: name of the status.
        message: of the status.
        cause: of an error on the server's side.
        details: numbers that belong to the method, for the log.
        client: who asks, for the log of a gallery.
    """

    method: str
    peer: str = ""
    signature: str = ""
    known: bool = False
    version: int | None = None
    fingerprint: str | None = None
    shapes: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    rows: int = 0
    frames: int = 0
    unreadable: int = 0
    code: str = "OK"
    message: str = ""
    cause: BaseException | None = None
    details: dict[str, int] = dataclasses.field(default_factory=dict)
    client: str = ""
    started: float = dataclasses.field(default_factory=time.perf_counter)

    def note_shapes(self, inputs: Any) -> None:
        """Note the shapes of a request's tensors, at most eight of eight dimensions."""
        for alias in sorted(inputs)[:_SHOWN]:
            self.shapes[alias[:_NAME_LENGTH]] = [dim.size for dim in inputs[alias].tensor_shape.dim[:_SHOWN]]

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata that tells a client which model answered."""
        found = []
        if self.version is not None:
            found.append(("kreid-version", str(self.version)))
        if self.fingerprint is not None:
            found.append(("kreid-fingerprint", self.fingerprint))
        return tuple(found)


class Metrics:
    """Prometheus metrics of one server.

    Attributes:
        unreadable_images: number of images since the start that could not be decoded.
    """

    def __init__(self) -> None:
        import prometheus_client as prometheus

        self.registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        self.unreadable_images = 0
        self._requests = prometheus.Counter(
            "kreid_requests",
            "Calls by method, signature and status code.",
            ["method", "signature", "code"],
            registry=registry,
        )
        self._seconds = prometheus.Histogram(
            "kreid_request_seconds",
            "Time from a call's start to its end.",
            ["method", "signature"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = prometheus.Histogram(
            "kreid_request_tracklets",
            "Tracklets in a request that was answered.",
            ["signature"],
            buckets=_ROWS,
            registry=registry,
        )
        self._frames = prometheus.Counter(
            "kreid_frames", "Frames and images in requests that were answered.", registry=registry
        )
        self._unreadable = prometheus.Counter(
            "kreid_unreadable_images", "Images that could not be decoded.", registry=registry
        )
        self._versions = prometheus.Gauge(
            "kreid_version_available", "1 for each version that can be asked for.", ["version"], registry=registry
        )
        self._loads = prometheus.Counter(
            "kreid_version_loads", "Versions loaded, by result.", ["result"], registry=registry
        )
        self.running = prometheus.Gauge("kreid_running_requests", "Requests that a model works on.", registry=registry)
        self.waiting = prometheus.Gauge("kreid_waiting_requests", "Requests that wait for a worker.", registry=registry)
        self._gallery_running, self._gallery_waiting = (
            prometheus.Gauge(f"kreid_gallery_{state}_requests", text, ["kind"], registry=registry)
            for state, text in (
                ("running", "Requests that search or change the gallery, by kind."),
                ("waiting", "Requests that wait for the gallery, by kind."),
            )
        )
        self.batches = prometheus.Histogram(
            "kreid_batch_requests", "Requests that ran as one batch.", buckets=_ROWS[:8], registry=registry
        )

    def gallery_gauges(self, kind: str) -> tuple[Any, Any]:
        """Return the gauges of the requests to the gallery that run and that wait.

        Args:
            kind: of the requests, `"search"` or `"change"`.
        """
        return self._gallery_running.labels(kind), self._gallery_waiting.labels(kind)

    def finish(self, call: Call) -> float:
        """Count a call that ended; return its seconds."""
        seconds = time.perf_counter() - call.started
        # Names that clients make up would grow the metrics without limit.
        signature = call.signature if call.known else ""
        self._requests.labels(call.method, signature, call.code).inc()
        self._seconds.labels(call.method, signature).observe(seconds)
        if call.code == "OK" and call.rows:
            self._rows.labels(signature).observe(call.rows)
            self._frames.inc(call.frames)
        if call.unreadable:
            self._unreadable.inc(call.unreadable)
            self.unreadable_images += call.unreadable
        return seconds

    def version_changed(self, number: int, available: bool, loaded: bool, failed: bool) -> None:
        """Note the new state of a version."""
        if available:
            self._versions.labels(number).set(1)
        else:
            self._versions.remove(number)
        if loaded or failed:
            self._loads.labels("failed" if failed else "loaded").inc()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as text, and its content type.

        Args:
            accept: the scraper's Accept header.
        """
        from prometheus_client import exposition

        encode, content_type = exposition.choose_encoder(accept)
        return encode(self.registry), content_type


def log_call(call: Call, seconds: float) -> None:
    """Log a call that ended: faults of the server as errors with their cause, unreadable images as warnings."""
    level = logging.INFO
    if call.code in SERVER_FAULTS:
        level = logging.ERROR
    elif call.unreadable:
        level = logging.WARNING
    if not LOG.isEnabledFor(level):
        return
    fields: dict[str, Any] = {
        "peer": call.peer,
        "method": call.method,
        "signature": call.signature[:_NAME_LENGTH],
        "version": call.version,
        "shapes": dict(call.shapes),  # a call whose client has left is still read by its thread
        **call.details,
        "status": call.code,
        "milliseconds": round(1000 * seconds, 3),
    }
    text = f"{call.method} {fields['signature']} ended with {call.code}"
    if call.message:
        fields["error"] = call.message
        text += f": {call.message}"
    if call.unreadable:
        fields["unreadable_images"] = call.unreadable
        text += f"; {call.unreadable} of its {call.frames} images could not be read"
    if call.cause is not None:
        fields["cause"] = "".join(traceback.format_exception(call.cause))
        text += f"; cause: {call.cause!r}"
    LOG.log(level, text, extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """Formats records as JSON objects, one a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        line: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
        }
        if fields is None or record.levelno >= logging.ERROR or "event" in fields:
            line["message"] = record.getMessage()
        if fields is None and record.name != LOG.name:
            line["logger"] = record.name
        line.update(fields or {})
        if record.exc_info:
            line["cause"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _DroppingQueueHandler(logging.handlers.QueueHandler):
    """Drops lines when nobody reads the log: a full pipe must not stop the server."""

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped = getattr(self, "dropped", 0) + 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # formatted by the thread that writes


@contextlib.contextmanager
def json_log(stream: TextIO, level: str) -> Iterator[Callable[[], None]]:
    """Write the log as JSON lines to a stream, by a thread of its own.

    Args:
        stream: to write to.
        level: lowest level of the server's lines, such as `"info"`; of other lines, warnings and errors are written.

    Yields:
        A function that writes the waiting lines, for the end of the process.
    """
    lines: queue.Queue[Any] = queue.Queue(_LOG_ROOM)
    writer = logging.StreamHandler(stream)
    writer.setFormatter(JsonFormatter())
    listener = logging.handlers.QueueListener(lines, writer)
    root = logging.getLogger()
    before = root.handlers, root.level, LOG.level
    root.handlers = [_DroppingQueueHandler(lines)]
    root.setLevel(logging.WARNING)
    LOG.setLevel(level.upper())
    logging.captureWarnings(True)
    listener.start()
    running = True

    def flush() -> None:
        nonlocal running
        if running:
            running = False
            # A reader who does not read must not hold up the end of the process.
            stopping = threading.Thread(target=listener.stop, daemon=True)
            stopping.start()
            stopping.join(_LAST_LINES_S)

    try:
        yield flush
    finally:
        logging.captureWarnings(False)
        root.handlers = before[0]
        root.setLevel(before[1])
        LOG.setLevel(before[2])
        flush()
