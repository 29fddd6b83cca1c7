"""The gRPC front: coroutines that admit calls, and threads that run the model and search the gallery."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

from kreid.serving.gallery_replies import GalleryReplies, TrackletsRequest
from kreid.serving.gallery_wire import GALLERY_SERVICE
from kreid.serving.refusal import RequestRefused
from kreid.serving.replies import Replies
from kreid.serving.security import TokenFile
from kreid.serving.telemetry import SERVER_FAULTS, Call, Metrics, log_call
from kreid.serving.workers import Workers, stopping

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
HEALTH_SERVICE = "grpc.health.v1.Health"

_Result = TypeVar("_Result")


class Services:
    """The handlers of all methods, in one event loop.

    A call costs no thread until its request has arrived, so calls without a body hold up nobody. The token is checked
    before the body is received. At most `max_calls` requests to the model run and wait, and as many searches, and as
    many changes of the gallery; further ones are refused. The three have threads of their own: a slow search stops no
    model, and a change that waits for another process stops no search.

    Args:
        replies: that the model's methods give, or `None` without a model.
        gallery: that the gallery's methods give, or `None` without a gallery.
        metrics: to count in.
        tokens: of the clients, or `None` for no check.
        workers: number of requests to the model that run at once.
        gallery_workers: number of searches that run at once. One change of the gallery runs at a time.
        max_calls: number of requests of a kind that run and wait.
        body_seconds: until a call without a body is ended.
    """

    def __init__(
        self,
        replies: Replies | None,
        gallery: GalleryReplies | None,
        metrics: Metrics,
        tokens: TokenFile | None,
        workers: int,
        gallery_workers: int,
        max_calls: int,
        body_seconds: float = 60.0,
    ) -> None:
        self._replies = replies
        self._gallery = gallery
        self._metrics = metrics
        self._tokens = tokens
        self._body_seconds = body_seconds
        self._model = Workers(workers, max_calls, metrics.running, metrics.waiting, "kreid-model")
        self._searches, self._changes = (
            Workers(threads, max_calls, *metrics.gallery_gauges(kind), f"kreid-{kind}")
            for threads, kind in ((gallery_workers, "search"), (1, "change"))
        )
        self._calls = 0
        self._reads: set[asyncio.Future[Any]] = set()
        self._reloading: asyncio.Future[bytes] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.stopping = False

    def handlers(self) -> tuple[Any, ...]:
        """Return gRPC's generic handlers."""
        import grpc

        services: dict[str, dict[str, Callable[[bytes, Call, Any], Any]]] = {}
        if self._replies is not None:
            services[PREDICTION_SERVICE] = {
                "Predict": self._predict,
                "GetModelMetadata": self._on_the_loop(self._replies.metadata),
            }
            services[MODEL_SERVICE] = {
                "GetModelStatus": self._on_the_loop(self._replies.status),
                "HandleReloadConfigRequest": self._reload,
            }
        if self._gallery is not None:
            services[GALLERY_SERVICE] = {
                "Search": self._search,
                "Add": self._add,
                "Delete": self._in(self._changes, self._gallery.delete),
                "Stats": self._in(self._searches, self._gallery.stats),
            }
        # On the wire a unary method is a stream of one message. As a stream, the handler runs before the message is
        # there and can end a call that sends none.
        return tuple(
            grpc.method_handlers_generic_handler(
                service,
                {
                    name: grpc.stream_unary_rpc_method_handler(self._handler(name, method))
                    for name, method in methods.items()
                },
            )
            for service, methods in services.items()
        )

    async def drain(self, seconds: float) -> None:
        """Refuse new calls, wait for the admitted ones, and end those that need longer with UNAVAILABLE."""
        self.stopping = True
        for read in list(self._reads):
            read.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), max(0.0, seconds))
        for workers in (self._model, self._searches, self._changes):
            workers.cancel()
        if self._reloading is not None:
            self._reloading.cancel()
        # The handlers now end by themselves.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), 1.0)
        for workers in (self._model, self._searches, self._changes):
            workers.shut_down()

    def _handler(self, name: str, method: Callable[[bytes, Call, Any], Any]) -> Callable[[Any, Any], Any]:
        import grpc

        async def handle(_: Any, context: Any) -> bytes:
            call = Call(name, context.peer(), client=_client(context))
            self._calls += 1
            self._idle.clear()
            try:
                if self._tokens is not None:
                    token = self._tokens.check(context.invocation_metadata() or ())
                    call.client += f", token {token}"
                return await method(await self._body(context), call, context)
            except RequestRefused as refused:
                call.code, call.message = refused.code, refused.message
                call.cause = refused.__cause__ if refused.code in SERVER_FAULTS else None
            except asyncio.CancelledError:
                call.code = "CANCELLED"
                raise
            except Exception as error:
                call.code, call.message, call.cause = "INTERNAL", "The server failed; its log says why.", error
            finally:
                context.set_trailing_metadata(call.trailing_metadata())
                log_call(call, self._metrics.finish(call))
                self._calls -= 1
                if not self._calls:
                    self._idle.set()
            return await context.abort(grpc.StatusCode[call.code], call.message)

        return handle

    async def _body(self, context: Any) -> bytes:
        import grpc

        if self.stopping:
            raise stopping()
        read = asyncio.ensure_future(context.read())
        self._reads.add(read)
        try:
            await asyncio.wait({read}, timeout=self._body_seconds)
        finally:
            self._reads.discard(read)
            if not read.done():
                read.cancel()
        if read.cancelled():
            raise stopping()
        if not read.done():
            raise RequestRefused("DEADLINE_EXCEEDED", f"No request arrived within {self._body_seconds:g} s.")
        body = read.result()
        if body is grpc.aio.EOF:
            raise RequestRefused("INTERNAL", "The call has no request.")
        return body

    async def _predict(self, body: bytes, call: Call, context: Any) -> bytes:
        assert self._replies is not None
        predict, deadline = self._replies.predict, _deadline(context)
        return await self._run(self._model, lambda: predict(body, call, deadline))

    async def _search(self, body: bytes, call: Call, context: Any) -> bytes:
        gallery, deadline = self._gallery, _deadline(context)
        assert gallery is not None
        request = await self._run(self._searches, lambda: gallery.read_search(body, call))
        await self._embed(request, call, deadline)
        return await self._searches.run(lambda: gallery.search(request, call, deadline))

    async def _add(self, body: bytes, call: Call, context: Any) -> bytes:
        gallery, deadline = self._gallery, _deadline(context)
        assert gallery is not None
        request = await self._run(self._searches, lambda: gallery.read_add(body, call))
        await self._embed(request, call, deadline)
        return await self._changes.run(lambda: gallery.add(request, call, deadline))

    async def _embed(self, request: TrackletsRequest, call: Call, deadline: float | None) -> None:
        gallery = self._gallery
        if request.images is not None and gallery is not None:
            await self._model.run(lambda: gallery.embed(request, call, deadline))

    async def _reload(self, body: bytes, call: Call, context: Any) -> bytes:
        # Beside the workers: requests go on while a version is loaded.
        if self._reloading is not None:
            raise RequestRefused("UNAVAILABLE", "Another reload is running; try again when it has ended.")
        assert self._replies is not None
        reload = self._replies.reload
        reloading = self._reloading = asyncio.ensure_future(asyncio.to_thread(reload, body, call))
        reloading.add_done_callback(self._reloaded)
        await asyncio.wait({reloading})  # which a client that leaves does not stop
        if reloading.cancelled():
            raise stopping()
        return reloading.result()

    def _reloaded(self, reload: asyncio.Future[bytes]) -> None:
        self._reloading = None
        if not reload.cancelled():
            reload.exception()  # of a call whose client has left, nobody else asks

    def _on_the_loop(self, answer: Callable[[bytes, Call], bytes]) -> Callable[[bytes, Call, Any], Any]:
        async def method(body: bytes, call: Call, context: Any) -> bytes:
            return answer(body, call)

        return method

    def _in(
        self, workers: Workers, answer: Callable[[bytes, Call, float | None], bytes]
    ) -> Callable[[bytes, Call, Any], Any]:
        async def method(body: bytes, call: Call, context: Any) -> bytes:
            deadline = _deadline(context)
            return await self._run(workers, lambda: answer(body, call, deadline))

        return method

    async def _run(self, workers: Workers, work: Callable[[], _Result]) -> _Result:
        if self.stopping:
            raise stopping()
        return await workers.run(work)


def _client(context: Any) -> str:
    """Return what the log of a gallery calls a client: its address, and the name in its certificate."""
    names = (context.auth_context() or {}).get("x509_common_name", ())
    return ", ".join([context.peer(), *(f"certificate {name.decode(errors='replace')}" for name in names)])


def _deadline(context: Any) -> float | None:
    left = context.time_remaining()
    return None if left is None else time.monotonic() + left


def token_interceptor(tokens: TokenFile) -> Any:
    """Return an interceptor that checks the token of services other than kreid's and health.

    kreid's services check it themselves, so that refused calls are logged and counted; probes have no token.
    """
    import grpc

    exempt = tuple(f"/{name}/" for name in (PREDICTION_SERVICE, MODEL_SERVICE, GALLERY_SERVICE, HEALTH_SERVICE))

    class Interceptor(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            if not details.method.startswith(exempt):
                try:
                    tokens.check(details.invocation_metadata)
                except RequestRefused as refused:
                    code, message = grpc.StatusCode[refused.code], refused.message

                    async def abort(_: Any, context: Any) -> None:
                        await context.abort(code, message)

                    return grpc.stream_stream_rpc_method_handler(abort)
            return await continuation(details)

    return Interceptor()
