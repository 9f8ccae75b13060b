"""A small DES over real sockets, in memory, with faults on order: what the client's tests talk to.

It keeps the promises of the protos that a client can see (write-once names, request ids, ranges,
checksums, sizes, limits, rich errors) and nothing else.
"""

import asyncio
import copy
import hashlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import google_crc32c
import grpc
from des_proto.v1 import (
    file_service_pb2,
    file_service_pb2_grpc,
    naming_service_pb2,
    naming_service_pb2_grpc,
    shard_service_pb2,
    shard_service_pb2_grpc,
    system_service_pb2,
    system_service_pb2_grpc,
    types_pb2,
)
from double_errors import Refused, refuse
from double_many import ManyMixin
from grpc import aio

MIB = 1 << 20


@dataclass
class Fault:
    """What goes wrong with one call of a method. Faults of a method are used up in order."""

    code: str = ""
    """Status of the failure; empty: no failure, only the delays and corruptions below."""
    reason: str = ""
    """ErrorInfo.reason; empty: a bare status, as a proxy would send."""
    message: str = "a fault on order"
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None
    after_effect: bool = False
    """Fail only when the work is done: the reply is lost, the effect stays."""
    at_byte: int = 0
    """Fail when this many bytes of the file have come or gone."""
    delay_s: float = 0
    """Wait before anything else."""
    stall_s: float = 0
    """Wait at `at_byte`, then go on."""
    flip_chunk: bool = False
    """Change one bit of the chunk that holds `at_byte`, keep its checksum."""
    flip_file: bool = False
    """Change one bit and the chunk's checksum with it, keep the file's."""
    end_early: bool = False
    """End the stream at `at_byte`, with status OK."""
    answer_at: int = 0
    """PutFile: answer with success when this many bytes have come, whatever was still to come."""
    other_file: bool = False
    """Serve another file's facts."""


@dataclass
class StoredFile:
    """A file of the double."""

    info: types_pb2.FileInfo
    content: bytes


class DesDouble(
    ManyMixin,
    file_service_pb2_grpc.FileServiceServicer,
    naming_service_pb2_grpc.NamingServiceServicer,
    shard_service_pb2_grpc.ShardServiceServicer,
    system_service_pb2_grpc.SystemServiceServicer,
):
    """The servicers and what they keep."""

    def __init__(self):
        self.files: dict[str, StoredFile] = {}
        self.names_by_request: dict[str, list[str]] = {}
        self.calls: Counter[str] = Counter()
        self.requests: list[object] = []
        """Every request message of PutFile, GetFile and the unary calls, oldest first."""
        self.headers: list[dict[str, str]] = []
        self.deadlines: list[float | None] = []
        """Seconds left when a call arrived."""
        self.keep_requests = True
        self.keep_content = True
        self.cancelled = 0
        """Calls that the client gave up."""
        self.downloads_open = 0
        """GetFile streams under way."""
        self.chunk_bytes = MIB
        self.limits = types_pb2.Limits(
            max_file_size_bytes=1 << 34,
            max_message_bytes=2 * MIB + (64 << 10),
            max_chunk_bytes=2 * MIB,
            preferred_chunk_bytes=MIB,
            max_names_per_assign=1000,
        )
        self.shards = 5
        self.page_size = 2
        self._faults: dict[str, list[Fault]] = {}
        self._serial = 0
        self.streams_seen: list[str] = []
        """Peers of the batch streams, oldest first."""
        self.list_page = 3
        self.upload_lag = 0
        """Bytes received but not kept by a broken resumable upload."""
        self.features = ["batch"]
        self.node = ""
        """What it calls itself as a node of a cluster; empty: one that knows of no others."""
        self.owner_of = lambda _name: self.node
        """Which node owns a name's shard; a call about another's is answered as if it had been sent on."""
        self.shard_bits = 4
        self.sent_on = 0
        self.asked_who = 0
        """Calls that wanted to know who answers."""
        self.start_many()

    def fail(self, method: str, times: int = 1, **what: object) -> None:
        """Order a fault for the next calls of a method."""
        self._faults.setdefault(method, []).extend(Fault(**what) for _ in range(times))

    def add(self, content: bytes, **what: object) -> str:
        """Store a file without a call; return its name."""
        name = self._new_name("T")
        self._store(file_service_pb2.FileSpec(name=name, **what), content)
        return name

    async def _arrive(self, method, context, request=None):
        self.calls[method] += 1
        if self.keep_requests:
            if request is not None:
                self.requests.append(request)
            self.headers.append(dict(context.invocation_metadata()))
            self.deadlines.append(context.time_remaining())
        faults = self._faults.get(method)
        fault = faults.pop(0) if faults else Fault()
        try:
            await asyncio.sleep(fault.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if fault.code and not fault.after_effect and not fault.at_byte:
            await self._break(fault, context)
        return fault

    def _hint(self, context, name):
        asked = ("des-follow", "1") in tuple(context.invocation_metadata())
        self.asked_who += asked
        if not self.node:
            return
        owner = self.owner_of(name) if name else self.node
        told = [("des-node", self.node)] if asked or owner != self.node else []
        if owner != self.node:
            self.sent_on += 1
            shard = hashlib.sha256(name.encode()).digest()[0] >> (8 - self.shard_bits)
            told.append(("des-owner", f"{owner};{shard};{self.shard_bits}"))
        context.set_trailing_metadata(tuple(told))

    async def _break(self, fault, context):
        await refuse(
            context,
            Refused(
                fault.code,
                fault.reason,
                fault.message,
                retry_after_s=fault.retry_after_s,
                **fault.metadata,
            ),
        )

    def _new_name(self, prefix):
        self._serial += 1
        number = self._serial.to_bytes(6, "big")
        return f"{prefix or 'DES'}_20260115_({number.hex().upper()}_{sum(number) % 256:02X})"

    def _store(self, spec, content, crc=None):
        if crc is None:
            crc = google_crc32c.value(content)
        if not spec.name and spec.request_id:
            names = self.names_by_request.setdefault(spec.request_id, [])
            if not names:
                names.append(self._new_name(spec.prefix))
            name = names[0]
        else:
            name = spec.name or self._new_name(spec.prefix)
        known = self.files.get(name)
        if known is not None:
            if known.info.checksums.crc32c == crc and known.info.size_bytes == spec.size_bytes:
                return known.info, True
            raise Refused("ALREADY_EXISTS", "NAME_CONFLICT", f"{name} holds other content", name=name)
        info = types_pb2.FileInfo(
            name=name,
            shard_id=hashlib.sha256(name.encode()).digest()[0],
            size_bytes=spec.size_bytes if spec.HasField("size_bytes") else len(content),
            checksums=types_pb2.Checksums(crc32c=crc),
            content_type=spec.content_type,
            state=types_pb2.FILE_STATE_OPEN,
            metadata=spec.metadata,
        )
        info.create_time.FromMilliseconds(1_768_478_400_123)
        self.files[name] = StoredFile(info, content if self.keep_content else b"")
        return info, False

    # --- FileService ---------------------------------------------------------------------------

    async def PutFile(self, request_iterator, context):
        fault = await self._arrive("PutFile", context)
        spec, pieces, size, crc, finished, declared, upload_id = None, [], 0, 0, False, None, ""
        try:
            async for request in request_iterator:
                if self.keep_requests:
                    self.requests.append(request)
                if request.ByteSize() > self.limits.max_message_bytes or (
                    len(request.chunk.data) > self.limits.max_chunk_bytes
                ):
                    raise Refused("INVALID_ARGUMENT", "MESSAGE_TOO_LARGE", "message too large")
                if spec is None:
                    spec = request.spec
                    self._hint(context, spec.name)
                    if request.upload_id:
                        upload = self.uploads[request.upload_id]
                        del upload[1][len(upload[1]) - self.upload_lag :]
                        upload_id, spec, kept = request.upload_id, upload[0], upload[1]
                        size, crc, pieces = len(kept), google_crc32c.value(bytes(kept)), [bytes(kept)]
                if request.write_offset != size:
                    raise Refused("INVALID_ARGUMENT", "OFFSET_MISMATCH", "offset mismatch")
                data = request.chunk.data
                if fault.flip_chunk and fault.at_byte < size + len(data):
                    data = flip(data)
                if request.chunk.HasField("crc32c") and google_crc32c.value(data) != request.chunk.crc32c:
                    raise Refused(
                        "INVALID_ARGUMENT", "UPLOAD_CHECKSUM_MISMATCH", "chunk checksum", scope="chunk"
                    )
                size += len(data)
                if upload_id:
                    self.uploads[upload_id][1].extend(data)
                crc = google_crc32c.extend(crc, data)
                if self.keep_content:
                    pieces.append(data)
                if fault.answer_at and size >= fault.answer_at:
                    known = next(iter(self.files.values()))
                    return file_service_pb2.PutFileResponse(file=known.info, already_existed=True)
                if request.checksums.HasField("crc32c"):
                    declared = request.checksums.crc32c
                finished = request.finish
                if fault.at_byte and size >= fault.at_byte:
                    await asyncio.sleep(fault.stall_s)
                    if fault.code and not fault.after_effect:
                        await self._break(fault, context)
            if not finished:
                raise Refused("INVALID_ARGUMENT", "STREAM_INCOMPLETE", "no finish", position=size)
            if spec.HasField("size_bytes") and spec.size_bytes != size:
                raise Refused("INVALID_ARGUMENT", "UPLOAD_SIZE_MISMATCH", "size mismatch")
            if declared is not None and declared != crc:
                raise Refused("INVALID_ARGUMENT", "UPLOAD_CHECKSUM_MISMATCH", "file checksum", scope="file")
            spec = copy.deepcopy(spec)
            spec.size_bytes = size
            info, existed = self._store(spec, b"".join(pieces), crc)
            if upload_id:
                self.finished_uploads[upload_id] = info
        except Refused as refused:
            await refuse(context, refused)
            raise
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if fault.code and fault.after_effect:
            await self._break(fault, context)
        return file_service_pb2.PutFileResponse(
            file=info, already_existed=existed, durability=types_pb2.DURABILITY_LOCAL
        )

    async def GetFile(self, request, context) -> AsyncIterator[file_service_pb2.GetFileResponse]:
        fault = await self._arrive("GetFile", context, request)
        self._hint(context, request.name)
        stored = await self._find(request.name, context)
        total = stored.info.size_bytes
        start = request.range.offset
        if start < 0:
            start = max(0, total + start)
        if start > total:
            await refuse(
                context,
                Refused("OUT_OF_RANGE", "RANGE_NOT_SATISFIABLE", "past the end", offset=start, size=total),
            )
        stop = min(total, start + request.range.limit) if request.range.limit else total
        info = types_pb2.FileInfo()
        info.CopyFrom(stored.info)
        if fault.other_file:
            info.checksums.crc32c ^= 1
        first = True
        position = start
        self.downloads_open += 1
        try:
            while first or position < stop:
                data = stored.content[position : min(stop, position + self.chunk_bytes)]
                end = position + len(data)
                crc = google_crc32c.value(data)
                hit = position <= fault.at_byte < end
                if hit and fault.flip_chunk:
                    data = flip(data)
                if hit and fault.flip_file:
                    data = flip(data)
                    crc = google_crc32c.value(data)
                response = file_service_pb2.GetFileResponse(chunk=types_pb2.DataChunk(data=data, crc32c=crc))
                if first:
                    response.file.CopyFrom(info)
                    response.content_range.start = start
                    response.content_range.end = stop
                    response.content_range.total_size = total
                    first = False
                yield response
                position = end
                if fault.at_byte and position - start >= fault.at_byte:
                    await asyncio.sleep(fault.stall_s)
                    if fault.end_early:
                        return
                    if fault.code:
                        await self._break(fault, context)
        finally:
            self.downloads_open -= 1
        if fault.code and fault.after_effect:
            await self._break(fault, context)

    async def StatFile(self, request, context):
        await self._arrive("StatFile", context, request)
        self._hint(context, request.name)
        stored = await self._find(request.name, context)
        return file_service_pb2.StatFileResponse(file=stored.info)

    async def _find(self, name, context):
        stored = self.files.get(name)
        if stored is None or name in self.deleted:
            await refuse(context, Refused("NOT_FOUND", "FILE_NOT_FOUND", f"no file {name!r}", name=name))
        return stored

    # --- the other services ----------------------------------------------------------------------

    async def AssignName(self, request, context):
        fault = await self._arrive("AssignName", context, request)
        count = request.count or 1
        if count > self.limits.max_names_per_assign:
            await refuse(context, Refused("INVALID_ARGUMENT", "INVALID_FIELD", "too many", field="count"))
        names = self.names_by_request.setdefault(
            request.request_id, [self._new_name(request.prefix) for _ in range(count)]
        )
        if fault.code:
            await self._break(fault, context)
        return naming_service_pb2.AssignNameResponse(
            names=[naming_service_pb2.AssignedName(name=name, shard_id=7, day="2026-01-15") for name in names]
        )

    async def ShardStatus(self, request, context):
        await self._arrive("ShardStatus", context, request)
        wanted = list(request.shard_ids) or list(range(self.shards))
        if wanted[-1] >= self.shards:
            await refuse(context, Refused("NOT_FOUND", "SHARD_NOT_FOUND", "no shard", shard_id=wanted[-1]))
        start = int(request.page_token or 0)
        stop = start + self.page_size
        return shard_service_pb2.ShardStatusResponse(
            shards=[self._shard(one) for one in wanted[start:stop]],
            next_page_token=str(stop) if stop < len(wanted) else "",
        )

    def _shard(self, shard_id):
        shard = shard_service_pb2.Shard(
            shard_id=shard_id, state=shard_service_pb2.SHARD_STATE_ACTIVE, open_files=3, epoch=9
        )
        shard.oldest_open_age.FromMilliseconds(1500)
        return shard

    async def SealShard(self, request, context):
        fault = await self._arrive("SealShard", context, request)
        if fault.code:
            await self._break(fault, context)
        return shard_service_pb2.SealShardResponse(
            shard=self._shard(request.shard_id),
            containers=[shard_service_pb2.SealedContainer(container_id="c", shard_span=1, file_count=3)],
        )

    async def GetServerInfo(self, request, context):
        await self._arrive("GetServerInfo", context, request)
        return system_service_pb2.GetServerInfoResponse(
            server_version="0.1.0",
            api_versions=["des.v1"],
            features=self.features,
            limits=self.limits,
            default_durability=types_pb2.DURABILITY_LOCAL,
            shard_bits=8,
        )


def flip(data: bytes) -> bytes:
    """Change one bit."""
    return bytes([data[0] ^ 1]) + data[1:]


class RunningDouble:
    """A double that serves from a thread of its own, so that blocking and asyncio tests can use it."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None):
        self.double = DesDouble()
        self.port = 0
        self._credentials = credentials
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait(10)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _run(self):
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.close()

    async def _start(self, port=0):
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        file_service_pb2_grpc.add_FileServiceServicer_to_server(self.double, self._server)
        naming_service_pb2_grpc.add_NamingServiceServicer_to_server(self.double, self._server)
        shard_service_pb2_grpc.add_ShardServiceServicer_to_server(self.double, self._server)
        system_service_pb2_grpc.add_SystemServiceServicer_to_server(self.double, self._server)
        address = f"127.0.0.1:{port}"
        if self._credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self._credentials)
        await self._server.start()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def stop_serving(self) -> None:
        """Go away, as a killed process would; what is stored stays."""
        self._do(self._server.stop(0))

    def serve_again(self) -> None:
        """Come back at the same port."""
        self._do(self._start(self.port))

    def wait_until(self, condition, timeout_s: float = 5) -> None:
        """Wait for something the server does on its own time."""
        ends_at = time.monotonic() + timeout_s
        while not condition(self.double):
            assert time.monotonic() < ends_at, "the double never came to that"
            time.sleep(0.005)

    def close(self) -> None:
        self._do(self._server.stop(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
