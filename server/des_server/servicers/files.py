"""`des.v1.FileService`."""

from typing import Final

from des_proto.v1.file_service_pb2 import (
    BatchDeleteFilesRequest,
    BatchDeleteFilesResponse,
    BatchReadFilesRequest,
    BatchReadFilesResponse,
    BatchStatFilesRequest,
    BatchStatFilesResponse,
    BatchWriteFilesRequest,
    BatchWriteFilesResponse,
    CancelUploadRequest,
    CancelUploadResponse,
    DeleteFileRequest,
    DeleteFileResponse,
    GetFileRequest,
    GetFileResponse,
    GetUploadStatusRequest,
    GetUploadStatusResponse,
    ListFilesRequest,
    ListFilesResponse,
    PutFileRequest,
    PutFileResponse,
    StartUploadRequest,
    StartUploadResponse,
    StatFileRequest,
    StatFileResponse,
    WaitStoredRequest,
    WaitStoredResponse,
)
from grpc.aio import ServicerContext

from des.errors import DesError, InvalidInputError
from des.monitoring.metrics import NodeMetrics
from des.node import Node
from des.retrieval import ReadCost
from des_server import convert
from des_server.cluster.node_keys import OPEN_ONLY_KEY
from des_server.cluster.onward import has
from des_server.credits import ByteCredits
from des_server.interceptors.calls import Incoming, Outgoing, ends_with_status
from des_server.leaving import Leaving
from des_server.servicers.batch_read import BatchRead, check_count
from des_server.servicers.batch_write import BatchWrite
from des_server.servicers.get_file import GetFile, cost_trailers
from des_server.servicers.list_files import ListFiles
from des_server.servicers.put_file import PutFile
from des_server.servicers.wait_stored import wait_stored

UNLISTED_KEY: Final = "des-unlisted-nodes"
"""Trailer of a page: lost nodes that alone may have more files of it, UUIDs with commas between them."""


class FileServicer:
    """Takes files in and gives them out."""

    def __init__(
        self,
        node: Node,
        lending: ByteCredits,
        metrics: NodeMetrics,
        leaving: Leaving,
        *,
        single: Node | None = None,
    ) -> None:
        """Serve a node.

        Args:
            node: answers for every shard.
            lending: byte credits for what is on its way in.
            metrics: counts files.
            leaving: ends batches and waits, which are begun again elsewhere.
            single: answers for its own shards alone, and says whose the others are: calls about one file
                are sent on as they are. `node` where None.
        """
        limits = node.settings.limits
        single = single or node
        self._node = node
        self._limits = limits
        self._leaving = leaving
        self._uploads = single.uploads
        self._put = PutFile(single, limits, lending, metrics)
        self._get = GetFile(single, limits, metrics)
        self._list = ListFiles(node, limits)
        self._batch_read = BatchRead(node, limits, metrics, leaving)
        self._batch_write = BatchWrite(node, limits, lending, metrics, leaving)

    async def PutFile(  # noqa: N802  the method's name on the wire
        self, requests: Incoming[PutFileRequest], _context: ServicerContext[PutFileRequest, PutFileResponse]
    ) -> PutFileResponse:
        """Store one file."""
        result = await self._put.run(requests)
        if isinstance(result, int):
            return PutFileResponse(persisted_size=result)
        return convert.put_result_to_wire(result)

    async def StartUpload(  # noqa: N802  the method's name on the wire
        self, request: StartUploadRequest, _context: ServicerContext[StartUploadRequest, StartUploadResponse]
    ) -> StartUploadResponse:
        """Begin a file that may arrive in several streams."""
        if not request.HasField("spec"):
            raise InvalidInputError("the request has no spec", field="spec")
        spec = convert.spec_from_wire(request.spec)
        return convert.started_upload(*await self._uploads.start(spec))

    async def GetUploadStatus(  # noqa: N802  the method's name on the wire
        self,
        request: GetUploadStatusRequest,
        _context: ServicerContext[GetUploadStatusRequest, GetUploadStatusResponse],
    ) -> GetUploadStatusResponse:
        """Return how much of an upload is kept, or its file."""
        return convert.upload_status(await self._uploads.status(request.upload_id))

    async def CancelUpload(  # noqa: N802  the method's name on the wire
        self,
        request: CancelUploadRequest,
        _context: ServicerContext[CancelUploadRequest, CancelUploadResponse],
    ) -> CancelUploadResponse:
        """Give an upload up."""
        await self._uploads.cancel(request.upload_id)
        return CancelUploadResponse()

    @ends_with_status
    async def GetFile(  # noqa: N802  the method's name on the wire
        self, request: GetFileRequest, outgoing: Outgoing
    ) -> GetFileResponse:
        """Send one file or a window of it."""
        return await self._get.run(request, outgoing)

    async def BatchWriteFiles(  # noqa: N802  the method's name on the wire
        self,
        requests: Incoming[BatchWriteFilesRequest],
        context: ServicerContext[BatchWriteFilesRequest, BatchWriteFilesResponse],
    ) -> None:
        """Store many files, each answered for itself."""
        await self._batch_write.run(requests, context)

    async def BatchReadFiles(  # noqa: N802  the method's name on the wire
        self,
        request: BatchReadFilesRequest,
        context: ServicerContext[BatchReadFilesRequest, BatchReadFilesResponse],
    ) -> None:
        """Send many files, or windows of them."""
        await self._batch_read.run(request, context)

    async def BatchStatFiles(  # noqa: N802  the method's name on the wire
        self,
        request: BatchStatFilesRequest,
        context: ServicerContext[BatchStatFilesRequest, BatchStatFilesResponse],
    ) -> BatchStatFilesResponse:
        """Return what is known about many files, each for itself."""
        full = convert.is_full(request.view)
        check_count(len(request.names), self._limits)
        cost = ReadCost()
        found = await self._node.stat_many(request.names, cost=cost)
        context.set_trailing_metadata((*context.trailing_metadata(), *cost_trailers(cost)))
        return BatchStatFilesResponse(results=[convert.stat_result(each, full=full) for each in found])

    async def ListFiles(  # noqa: N802  the method's name on the wire
        self, request: ListFilesRequest, context: ServicerContext[ListFilesRequest, ListFilesResponse]
    ) -> ListFilesResponse:
        """Return one page of files, by day and name."""
        cost = ReadCost()
        open_only = has(context.invocation_metadata(), OPEN_ONLY_KEY)
        response, unlisted = await self._list.run(request, cost, open_only=open_only)
        trailers = (*context.trailing_metadata(), *cost_trailers(cost))
        if unlisted:
            trailers = (*trailers, (UNLISTED_KEY, ",".join(unlisted)))
        context.set_trailing_metadata(trailers)
        return response

    async def DeleteFile(  # noqa: N802  the method's name on the wire
        self, request: DeleteFileRequest, _context: ServicerContext[DeleteFileRequest, DeleteFileResponse]
    ) -> DeleteFileResponse:
        """Delete one file for every reader."""
        [found] = await self._node.delete_many([request.name], allow_missing=request.allow_missing)
        if isinstance(found, DesError):
            raise found
        return DeleteFileResponse(file=None if found is None else convert.file_to_wire(found, full=True))

    async def BatchDeleteFiles(  # noqa: N802  the method's name on the wire
        self,
        request: BatchDeleteFilesRequest,
        _context: ServicerContext[BatchDeleteFilesRequest, BatchDeleteFilesResponse],
    ) -> BatchDeleteFilesResponse:
        """Delete many files, each for itself."""
        check_count(len(request.names), self._limits)
        found = await self._node.delete_many(request.names, allow_missing=request.allow_missing)
        results = [
            convert.stat_result(each, full=True) if each is not None else convert.missing_result(name)
            for name, each in zip(request.names, found, strict=True)
        ]
        return BatchDeleteFilesResponse(results=results)

    async def StatFile(  # noqa: N802  the method's name on the wire
        self, request: StatFileRequest, context: ServicerContext[StatFileRequest, StatFileResponse]
    ) -> StatFileResponse:
        """Return what is known about one file."""
        full = convert.is_full(request.view)
        cost = ReadCost()
        [found] = await self._node.stat_many([request.name], cost=cost)
        if isinstance(found, DesError):
            raise found
        context.set_trailing_metadata((*context.trailing_metadata(), *cost_trailers(cost)))
        return StatFileResponse(file=convert.file_to_wire(found, full=full))

    async def WaitStored(  # noqa: N802  the method's name on the wire
        self, request: WaitStoredRequest, _context: ServicerContext[WaitStoredRequest, WaitStoredResponse]
    ) -> WaitStoredResponse:
        """Wait until files are stored."""
        return await self._leaving.unless(wait_stored(self._node, request))
