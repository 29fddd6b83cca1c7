"""The gRPC front: coroutines that admit calls, and threads that run the model."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from collections.abc import Callable
from typing import Any

from kreid.serving.refusal import RequestRefused
from kreid.serving.replies import Replies
from kreid.serving.security import TokenFile
from kreid.serving.telemetry import SERVER_FAULTS, Call, Metrics, log_call

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
HEALTH_SERVICE = "grpc.health.v1.Health"


class Services:
    """The handlers of all methods, in one event loop.

    A call costs no thread until its request has arrived, so calls without a body hold up nobody. The token is checked
    before the body is received. At most `max_calls` requests run and wait; further ones are refused.

    Args:
        replies: that the methods give.
        metrics: to count in.
        tokens: of the clients, or `None` for no check.
        workers: number of requests that run at once.
        max_calls: number of requests that run and wait.
        body_seconds: until a call without a body is ended.
    """

    def __init__(
        self,
        replies: Replies,
        metrics: Metrics,
        tokens: TokenFile | None,
        workers: int,
        max_calls: int,
        body_seconds: float = 60.0,
    ) -> None:
        self._replies = replies
        self._metrics = metrics
        self._tokens = tokens
        self._max_calls = max_calls
        self._body_seconds = body_seconds
        self._pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="kreid-model")
        self._loop = asyncio.get_running_loop()
        self._admitted = 0
        self._running = 0
        self._calls = 0
        self._reads: set[asyncio.Future[Any]] = set()
        self._jobs: set[asyncio.Future[bytes]] = set()
        self._reloading: asyncio.Future[bytes] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.stopping = False

    def handlers(self) -> tuple[Any, ...]:
        """Return gRPC's generic handlers."""
        import grpc

        services = {
            PREDICTION_SERVICE: {
                "Predict": self._predict,
                "GetModelMetadata": self._on_the_loop(self._replies.metadata),
            },
            MODEL_SERVICE: {
                "GetModelStatus": self._on_the_loop(self._replies.status),
                "HandleReloadConfigRequest": self._reload,
            },
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
        for job in [*self._jobs, *([self._reloading] if self._reloading else [])]:
            job.cancel()
        # The handlers now end by themselves.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), 1.0)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _handler(self, name: str, method: Callable[[bytes, Call, Any], Any]) -> Callable[[Any, Any], Any]:
        import grpc

        async def handle(_: Any, context: Any) -> bytes:
            call = Call(name, context.peer())
            self._calls += 1
            self._idle.clear()
            try:
                if self._tokens is not None:
                    self._tokens.check(context.invocation_metadata() or ())
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
            raise _stopping()
        read = asyncio.ensure_future(context.read())
        self._reads.add(read)
        try:
            await asyncio.wait({read}, timeout=self._body_seconds)
        finally:
            self._reads.discard(read)
            if not read.done():
                read.cancel()
        if read.cancelled():
            raise _stopping()
        if not read.done():
            raise RequestRefused("DEADLINE_EXCEEDED", f"No request arrived within {self._body_seconds:g} s.")
        body = read.result()
        if body is grpc.aio.EOF:
            raise RequestRefused("INTERNAL", "The call has no request.")
        return body

    async def _predict(self, body: bytes, call: Call, context: Any) -> bytes:
        left = context.time_remaining()
        deadline = None if left is None else time.monotonic() + left
        return await self._in_a_thread(lambda: self._replies.predict(body, call, deadline))

    async def _reload(self, body: bytes, call: Call, context: Any) -> bytes:
        # Beside the workers: requests go on while a version is loaded.
        if self._reloading is not None:
            raise RequestRefused("UNAVAILABLE", "Another reload is running; try again when it has ended.")
        reloading = self._reloading = asyncio.ensure_future(asyncio.to_thread(self._replies.reload, body, call))
        reloading.add_done_callback(self._reloaded)
        await asyncio.wait({reloading})  # which a client that leaves does not stop
        if reloading.cancelled():
            raise _stopping()
        return reloading.result()

    def _reloaded(self, reload: asyncio.Future[bytes]) -> None:
        self._reloading = None
        if not reload.cancelled():
            reload.exception()  # of a call whose client has left, nobody else asks

    def _on_the_loop(self, answer: Callable[[bytes, Call], bytes]) -> Callable[[bytes, Call, Any], Any]:
        async def method(body: bytes, call: Call, context: Any) -> bytes:
            return answer(body, call)

        return method

    async def _in_a_thread(self, work: Callable[[], bytes]) -> bytes:
        if self.stopping:
            raise _stopping()
        if self._admitted >= self._max_calls:
            raise RequestRefused(
                "RESOURCE_EXHAUSTED",
                f"The server is busy: {self._admitted} requests run and wait, its limit; try again later.",
            )
        self._count(admitted=1)
        try:
            future = self._pool.submit(self._counted, work)
        except RuntimeError:  # the pool is shut down
            self._count(admitted=-1)
            raise _stopping() from None
        # Of the thread's work, not of the call: a client that leaves does not stop the work that has begun.
        future.add_done_callback(lambda _: self._from_a_thread(admitted=-1))
        job = asyncio.wrap_future(future)
        self._jobs.add(job)
        try:
            await asyncio.wait({job})
        finally:
            self._jobs.discard(job)
            if not job.done():
                job.cancel()
        if job.cancelled():
            raise _stopping()
        return job.result()

    def _counted(self, work: Callable[[], bytes]) -> bytes:
        self._from_a_thread(running=1)
        try:
            return work()
        finally:
            self._from_a_thread(running=-1)

    def _from_a_thread(self, **changes: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(lambda: self._count(**changes))

    def _count(self, admitted: int = 0, running: int = 0) -> None:
        self._admitted += admitted
        self._running += running
        self._metrics.running.set(self._running)
        self._metrics.waiting.set(max(0, self._admitted - self._running))


def _stopping() -> RequestRefused:
    return RequestRefused("UNAVAILABLE", "The server is stopping; try again.")


def token_interceptor(tokens: TokenFile) -> Any:
    """Return an interceptor that checks the token of services other than kreid's and health.

    kreid's services check it themselves, so that refused calls are logged and counted; probes have no token.
    """
    import grpc

    exempt = (f"/{PREDICTION_SERVICE}/", f"/{MODEL_SERVICE}/", f"/{HEALTH_SERVICE}/")

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
