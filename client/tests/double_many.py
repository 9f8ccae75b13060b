"""The double's calls over many files, its listing, its resumable uploads and its watch."""

import asyncio
import copy

import google_crc32c
from des_proto.v1 import file_service_pb2, shard_service_pb2, types_pb2
from double_errors import Refused, refuse
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

CODES = {"NOT_FOUND": 5, "ALREADY_EXISTS": 6, "INVALID_ARGUMENT": 3, "UNAVAILABLE": 14, "OUT_OF_RANGE": 11}
CODES |= {"RESOURCE_EXHAUSTED": 8}


def status(code, reason, message, retry_after_s=None, **metadata):
    """Build the status of one item."""
    made = status_pb2.Status(code=CODES[code], message=message)
    details = [error_details_pb2.ErrorInfo(reason=reason, domain="des.storage", metadata=metadata)]
    if retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        made.details.append(packed)
    return made


class ManyMixin:
    """For `DesDouble`, which keeps the files and the faults."""

    def start_many(self):
        self.deleted = set()
        self.stored_names = set()
        self.refuse_items = {}
        """By content (writes) or name (the rest): statuses to answer with, used up in order."""
        self.batch_part_bytes = 1 << 20
        self.reverse_reads = False
        self.uploads = {}
        """By upload id: spec and bytes so far."""
        self.finished_uploads = {}
        self.watch_script = []
        """Responses of the next watches, a list for each; an exhausted one stays open."""

    def _item_refusal(self, key):
        queue = self.refuse_items.get(key)
        return queue.pop(0) if queue else None

    async def BatchWriteFiles(self, request_iterator, context):
        fault = await self._arrive("BatchWriteFiles", context)
        received = 0
        used: set[int] = set()
        self.streams_seen.append(context.peer())
        async for request in request_iterator:
            if self.keep_requests:
                self.requests.append(request)
            assert request.ByteSize() <= self.limits.max_batch_message_bytes or not (
                self.limits.max_batch_message_bytes
            )
            response = file_service_pb2.BatchWriteFilesResponse()
            for item in request.items:
                data = item.chunk.data
                result = response.results.add(index=item.index)
                refusal = self._item_refusal(data)
                if item.index in used:
                    refusal = status("INVALID_ARGUMENT", "INVALID_FIELD", f"{item.index} was used before")
                used.add(item.index)
                try:
                    if refusal is not None:
                        result.status.CopyFrom(refusal)
                        continue
                    if item.chunk.HasField("crc32c") and google_crc32c.value(data) != item.chunk.crc32c:
                        raise Refused("INVALID_ARGUMENT", "UPLOAD_CHECKSUM_MISMATCH", "checksum")
                    info, existed = self._store(item.spec, data)
                except Refused as refused:
                    result.status.CopyFrom(
                        status(refused.code, refused.reason, str(refused), **refused.metadata)
                    )
                else:
                    result.file.CopyFrom(info)
                    result.already_existed = existed
                    result.durability = types_pb2.DURABILITY_LOCAL
            received += len(request.items)
            if fault.at_byte and received >= fault.at_byte:
                # Items count as bytes here: the answer to this message is lost.
                await asyncio.sleep(fault.stall_s)
                if fault.code:
                    await self._break(fault, context)
            yield response

    async def BatchReadFiles(self, request, context):
        fault = await self._arrive("BatchReadFiles", context, request)
        self.streams_seen.append(context.peer())
        response = file_service_pb2.BatchReadFilesResponse()
        size = 0
        order = list(enumerate(request.items))
        if self.reverse_reads:
            order.reverse()
        for sent, (index, item) in enumerate(order, 1):
            for part in self._parts(index, item, fault, omit=request.omit_file_info):
                response.parts.append(part)
                size += len(part.chunk.data) + 100
                if size >= self.batch_part_bytes:
                    yield response
                    response, size = file_service_pb2.BatchReadFilesResponse(), 0
            if fault.at_byte and sent >= fault.at_byte:
                if response.parts:
                    yield response
                await asyncio.sleep(fault.stall_s)
                if fault.end_early:
                    return
                if fault.code:
                    await self._break(fault, context)
        if response.parts:
            yield response

    def _parts(self, index, item, fault, *, omit):
        refusal = self._item_refusal(item.name)
        stored = self.files.get(item.name)
        if refusal is None and (stored is None or item.name in self.deleted):
            refusal = status("NOT_FOUND", "FILE_NOT_FOUND", f"no file {item.name!r}", name=item.name)
        if refusal is not None:
            yield file_service_pb2.FilePart(index=index, status=refusal, last=True)
            return
        content = stored.content
        start = item.range.offset if item.range.offset >= 0 else max(0, len(content) + item.range.offset)
        stop = min(len(content), start + item.range.limit) if item.range.limit else len(content)
        first = True
        position = start
        while first or position < stop:
            data = content[position : min(stop, position + self.batch_part_bytes)]
            crc = google_crc32c.value(data)
            if fault.flip_chunk and data:
                data = bytes([data[0] ^ 1]) + data[1:]
            if fault.flip_file and data:
                data = bytes([data[0] ^ 1]) + data[1:]
                crc = google_crc32c.value(data)
            part = file_service_pb2.FilePart(
                index=index, offset=position, chunk=types_pb2.DataChunk(data=data, crc32c=crc)
            )
            if first and not omit:
                part.file.CopyFrom(stored.info)
            first = False
            position += len(data)
            part.last = position >= stop
            yield part

    # --- names -----------------------------------------------------------------------------------

    def _about(self, name):
        refusal = self._item_refusal(name)
        if refusal is not None:
            return file_service_pb2.StatResult(status=refusal)
        stored = self.files.get(name)
        if stored is None:
            return file_service_pb2.StatResult(
                status=status("NOT_FOUND", "FILE_NOT_FOUND", f"no file {name!r}", name=name)
            )
        if name in self.deleted:
            return file_service_pb2.StatResult(
                status=status("NOT_FOUND", "FILE_DELETED", f"{name!r} was deleted", name=name)
            )
        return file_service_pb2.StatResult(file=stored.info)

    async def BatchStatFiles(self, request, context):
        await self._arrive("BatchStatFiles", context, request)
        return file_service_pb2.BatchStatFilesResponse(results=map(self._about, request.names))

    async def DeleteFile(self, request, context):
        fault = await self._arrive("DeleteFile", context, request)
        self._hint(context, request.name)
        result = self._about(request.name)
        if result.HasField("status") and not request.allow_missing:
            reason = "FILE_DELETED" if request.name in self.deleted else "FILE_NOT_FOUND"
            await refuse(context, Refused("NOT_FOUND", reason, result.status.message, name=request.name))
        self.deleted.add(request.name)
        if fault.code and fault.after_effect:
            await self._break(fault, context)
        return file_service_pb2.DeleteFileResponse(file=result.file)

    async def BatchDeleteFiles(self, request, context):
        fault = await self._arrive("BatchDeleteFiles", context, request)
        results = []
        for name in request.names:
            result = self._about(name)
            if result.HasField("file"):
                self.deleted.add(name)
            elif request.allow_missing and result.status.code == CODES["NOT_FOUND"]:
                result = file_service_pb2.StatResult()
            results.append(result)
        if fault.code and fault.after_effect:
            await self._break(fault, context)
        return file_service_pb2.BatchDeleteFilesResponse(results=results)

    async def WaitStored(self, request, context):
        await self._arrive("WaitStored", context, request)
        if len(request.names) == 1:
            self._hint(context, request.names[0])
        results = []
        for name in request.names:
            result = copy.deepcopy(self._about(name))
            if result.HasField("file"):
                result.file.state = types_pb2.FILE_STATE_STORED
            results.append(result)
        return file_service_pb2.WaitStoredResponse(results=results)

    async def ListFiles(self, request, context):
        await self._arrive("ListFiles", context, request)
        names = sorted(
            name
            for name, stored in self.files.items()
            if name.startswith(request.prefix)
            and (request.show_deleted or name not in self.deleted)
            and (not request.shard_ids or stored.info.shard_id in request.shard_ids)
            and (not request.day or request.day.replace("-", "") in name)
        )
        after = request.page_token
        if after.startswith("bad"):
            await refuse(context, Refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID", "bad token"))
        rest = [name for name in names if name > after]
        page = rest[: request.page_size or self.list_page]
        return file_service_pb2.ListFilesResponse(
            files=[self.files[name].info for name in page],
            next_page_token=page[-1] if len(page) < len(rest) else "",
        )

    # --- uploads -----------------------------------------------------------------------------------

    async def StartUpload(self, request, context):
        await self._arrive("StartUpload", context, request)
        self._hint(context, request.spec.name)
        upload_id = f"upload-{len(self.uploads) + 1}"
        self.uploads[upload_id] = [request.spec, bytearray()]
        return file_service_pb2.StartUploadResponse(upload_id=upload_id)

    async def GetUploadStatus(self, request, context):
        await self._arrive("GetUploadStatus", context, request)
        if request.upload_id in self.finished_uploads:
            return file_service_pb2.GetUploadStatusResponse(file=self.finished_uploads[request.upload_id])
        if request.upload_id not in self.uploads:
            await refuse(
                context,
                Refused("NOT_FOUND", "UPLOAD_NOT_FOUND", "no upload", upload_id=request.upload_id),
            )
        return file_service_pb2.GetUploadStatusResponse(
            persisted_size=len(self.uploads[request.upload_id][1]) - self.upload_lag
        )

    async def CancelUpload(self, request, context):
        await self._arrive("CancelUpload", context, request)
        self.uploads.pop(request.upload_id, None)
        return file_service_pb2.CancelUploadResponse()

    # --- watch -------------------------------------------------------------------------------------

    async def WatchShardStatus(self, request, context):
        await self._arrive("WatchShardStatus", context, request)
        script = self.watch_script.pop(0) if self.watch_script else None
        for shards, revision, snapshot in script or ():
            yield shard_service_pb2.WatchShardStatusResponse(
                shards=[self._shard(one) for one in shards], revision=revision, snapshot=snapshot
            )
        if script is None:
            await asyncio.sleep(60)
