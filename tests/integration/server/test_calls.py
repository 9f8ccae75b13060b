"""The wrapper around handlers, over real sockets, in all four arities."""

import asyncio

import grpc
import pytest
from des_server.inflight import InFlight
from des_server.interceptors.calls import CallWrapper, ends_with_status
from des_server.interceptors.metrics import GrpcMetrics
from prometheus_client import CollectorRegistry

from des.errors import NotFoundError

ARITIES = {
    "unary": (False, False),
    "client_stream": (True, False),
    "server_stream": (False, True),
    "bidi_stream": (True, True),
}


async def joined(request):
    return request if isinstance(request, bytes) else b"".join([part async for part in request])


async def unary(request, context):
    return act(await joined(request))


async def stream(request, context):
    data = await joined(request)
    yield b"1"
    yield act(data)


@ends_with_status
async def ends(request, outgoing):
    data = await joined(request)
    await outgoing.write(b"1")
    outgoing.trailers = (("cost", "2"),)
    return act(data)


async def writes(request, context):
    data = await joined(request)
    await context.write(b"1")
    await context.write(act(data))


def act(data):
    if data == b"lost":
        raise NotFoundError("lost", name="n")
    if data == b"bug":
        raise ZeroDivisionError
    return data


async def aborts(request, context):
    await context.abort(grpc.StatusCode.DATA_LOSS, "own")


@pytest.fixture
async def rig():
    registry = CollectorRegistry()
    inflight = InFlight(2)
    wrapper = CallWrapper(metrics=GrpcMetrics(registry), inflight=inflight, make_request_id=lambda: "made")
    server = grpc.aio.server()
    handlers = {}
    makers = {
        "unary": grpc.unary_unary_rpc_method_handler,
        "client_stream": grpc.stream_unary_rpc_method_handler,
        "server_stream": grpc.unary_stream_rpc_method_handler,
        "bidi_stream": grpc.stream_stream_rpc_method_handler,
    }
    for kind, (many_in, many_out) in ARITIES.items():
        given = {"m": stream if many_out else unary, "a": aborts}
        if many_out:
            given |= {"w": writes, "e": ends}
        for name, handler in given.items():
            wrapped = wrapper.wrap(
                handler,
                service="t",
                method=f"{kind}_{name}",
                client_stream=many_in,
                server_stream=many_out,
                admit=True,
            )
            made_as = (
                {"server_stream": "unary", "bidi_stream": "client_stream"}[kind] if name == "e" else kind
            )
            handlers[f"{kind}_{name}"] = makers[made_as](wrapped)
    server.add_registered_method_handlers("t", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Rig(channel, registry, inflight)
    await server.stop(None)


class Rig:
    def __init__(self, channel, registry, inflight):
        self.channel = channel
        self.registry = registry
        self.inflight = inflight

    async def call(self, kind, data, name="m"):
        many_in, many_out = ARITIES[kind]
        maker = {
            "unary": self.channel.unary_unary,
            "client_stream": self.channel.stream_unary,
            "server_stream": self.channel.unary_stream,
            "bidi_stream": self.channel.stream_stream,
        }[kind]
        call = maker(f"/t/{kind}_{name}")(iter([data[:1], data[1:]]) if many_in else data)
        if many_out:
            return [message async for message in call], call
        return [await call], call

    async def samples(self, kind, name="m"):
        labels = {"grpc_type": kind, "grpc_service": "t", "grpc_method": f"{kind}_{name}"}
        get = self.registry.get_sample_value
        # A client has its answer a little before the server has counted it.
        async with asyncio.timeout(5):
            while get("grpc_server_started_total", labels) != get(
                "grpc_server_handling_seconds_count", labels
            ):
                await asyncio.sleep(0.005)
        return {
            "started": get("grpc_server_started_total", labels),
            "received": get("grpc_server_msg_received_total", labels),
            "sent": get("grpc_server_msg_sent_total", labels),
            "timed": get("grpc_server_handling_seconds_count", labels),
            **{
                code: get("grpc_server_handled_total", {**labels, "grpc_code": code})
                for code in ("OK", "NotFound", "Internal", "DataLoss", "Canceled", "Unavailable")
            },
        }


NOTHING = {"OK": 0, "NotFound": 0, "Internal": 0, "DataLoss": 0, "Canceled": 0, "Unavailable": 0}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, "m") for kind in ARITIES]
    + [(kind, name) for kind in ("server_stream", "bidi_stream") for name in ("w", "e")],
)
async def test_a_call_that_succeeds_is_counted_with_its_messages(rig, kind, name):
    many_in, many_out = ARITIES[kind]
    answers, call = await rig.call(kind, b"hello", name)
    assert answers == ([b"1", b"hello"] if many_out else [b"hello"])
    cost = {"cost": "2"} if name == "e" else {}
    assert dict(await call.trailing_metadata()) == {"des-request-id": "made"} | cost
    assert await rig.samples(kind, name) == NOTHING | {
        "started": 1,
        "received": 2 if many_in else 1,
        "sent": 2 if many_out else 1,
        "timed": 1,
        "OK": 1,
    }


@pytest.mark.parametrize(("data", "code"), [(b"lost", "NotFound"), (b"bug", "Internal")])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, "m") for kind in ARITIES]
    + [(kind, name) for kind in ("server_stream", "bidi_stream") for name in ("w", "e")],
)
async def test_a_call_that_fails_is_counted_by_its_code(rig, refusal, kind, name, data, code):
    many_in, many_out = ARITIES[kind]
    async with refusal() as refused:
        await rig.call(kind, data, name)
    assert refused().code.name.replace("_", "").lower() == code.lower()
    assert refused().trailers["des-request-id"] == "made"
    assert await rig.samples(kind, name) == NOTHING | {
        "started": 1,
        "received": 2 if many_in else 1,
        "sent": 1 if many_out else 0,
        "timed": 1,
        code: 1,
    }


@pytest.mark.parametrize("kind", ARITIES)
async def test_a_handler_that_aborts_by_itself_is_counted_too(rig, kind):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.call(kind, b"xx", "a")
    # A client that is still writing may hear of the broken stream first.
    assert caught.value.details() in {"own", "Internal error from Core"}
    assert (await rig.samples(kind, "a"))["DataLoss"] == 1


@pytest.mark.parametrize("kind", ARITIES)
async def test_a_server_that_is_leaving_refuses(rig, refusal, kind):
    rig.inflight.close()
    async with refusal() as refused:
        await rig.call(kind, b"xx")
    assert refused().code is grpc.StatusCode.UNAVAILABLE
    assert refused().reason == "SHUTTING_DOWN"
    assert "RetryInfo" in refused().kinds
    assert (await rig.samples(kind))["Unavailable"] == 1


@pytest.mark.parametrize("kind", ["client_stream", "bidi_stream"])
async def test_a_client_that_leaves_is_counted_once(rig, kind):
    maker = rig.channel.stream_unary if kind == "client_stream" else rig.channel.stream_stream
    call = maker(f"/t/{kind}_m")()
    await call.write(b"x")
    async with asyncio.timeout(5):
        while not rig.inflight.count:
            await asyncio.sleep(0.005)
    call.cancel()
    samples = await rig.samples(kind)
    # The stream's end may be seen before the cancellation, and then the handler has done its work.
    assert samples["Canceled"] + samples["OK"] == samples["timed"] == 1


async def test_calls_above_the_limit_are_told_to_come_back(rig, refusal):
    open_calls = [rig.channel.stream_unary("/t/client_stream_m")() for _ in range(2)]
    for call in open_calls:
        await call.write(b"x")
    async with asyncio.timeout(5):
        while rig.inflight.count < 2:
            await asyncio.sleep(0.005)
    async with refusal() as refused:
        await rig.call("unary", b"xx")
    assert refused().reason == "SERVER_BUSY"
    assert refused().facts == {"limit": "concurrent_calls"}
    for call in open_calls:
        await call.done_writing()
        assert await call == b"x"
    assert (await rig.call("unary", b"xx"))[0] == [b"xx"]


async def test_every_series_is_there_before_the_first_call(rig):
    assert await rig.samples("unary") == NOTHING | {"started": 0, "received": 0, "sent": 0, "timed": 0}
