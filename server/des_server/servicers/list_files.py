"""`FileService.ListFiles`: names in order, page by page."""

from dataclasses import replace

from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import ListFilesRequest, ListFilesResponse
from google.protobuf import timestamp_pb2

from des.config import LimitSettings
from des.errors import InvalidInputError
from des.naming.name import NAME_MAX
from des.node import Node, ShardNotFoundError
from des.retrieval import ReadCost
from des.retrieval.listing import ListPosition, ListQuestion
from des_server import convert
from des_server.page_tokens import make_token, read_token


class ListFiles:
    """Answers listings for one node."""

    def __init__(self, node: Node, limits: LimitSettings) -> None:
        self._node = node
        self._limits = limits

    async def run(
        self, request: ListFilesRequest, cost: ReadCost, *, open_only: bool = False
    ) -> tuple[ListFilesResponse, tuple[str, ...]]:
        """Return one page, and the lost nodes that may have files which belong on it (`ListPage.unlisted`).

        `open_only` is another node's question, which knows the rest itself.
        """
        names_only = request.view == types_pb2.FILE_VIEW_NAME
        full = convert.is_full(request.view)
        question = replace(self._question(request), open_only=open_only)
        limit = page_size(request.page_size, self._limits)
        sealed = sealed_question(request)
        after = None
        if request.page_token:
            after = ListPosition(*read_token(request.page_token, sealed, parts=2))
        page = await self._node.list_files(
            question, after=after, limit=limit, names_only=names_only, cost=cost
        )
        response = ListFilesResponse(
            files=[
                convert.listed_to_wire(info) if names_only else convert.file_to_wire(info, full=full)
                for info in page.files
            ],
            next_page_token="" if page.next is None else make_token(sealed, page.next),
        )
        return response, page.unlisted

    def _question(self, request: ListFilesRequest) -> ListQuestion:
        count = 1 << self._node.settings.shard_bits
        for shard in request.shard_ids:
            if shard >= count:
                raise ShardNotFoundError(
                    f"there is no shard {shard}, the store has {count}", shard_id=shard, shard_count=count
                )
        if len(request.prefix) > NAME_MAX:
            raise InvalidInputError(
                f"prefix has {len(request.prefix)} characters, at most {NAME_MAX} are allowed",
                field="prefix",
            )
        return ListQuestion(
            day=convert.undashed(request.day),
            prefix=request.prefix,
            shards=frozenset(request.shard_ids),
            created_after_ms=_ms(request.created_after) if request.HasField("created_after") else None,
            created_before_ms=_ms_up(request.created_before) if request.HasField("created_before") else None,
            show_deleted=request.show_deleted,
        )


def page_size(asked: int, limits: LimitSettings) -> int:
    """Return how many entries a page may have.

    Raises:
        InvalidInputError: a negative number.
    """
    if asked < 0:
        raise InvalidInputError(f"page_size is {asked}, expected 0 or more", field="page_size")
    return min(asked or limits.page_size, limits.page_size)


def sealed_question(request: ListFilesRequest) -> bytes:
    """Return what a token belongs to: the question without the place in its answer."""
    bare = ListFilesRequest()
    bare.CopyFrom(request)
    bare.ClearField("page_token")
    bare.ClearField("page_size")
    bare.ClearField("view")
    return b"ListFiles" + bare.SerializeToString(deterministic=True)


def _ms(time: timestamp_pb2.Timestamp) -> int:
    return int(time.seconds) * 1000 + int(time.nanos) // 1_000_000


def _ms_up(time: timestamp_pb2.Timestamp) -> int:
    return int(time.seconds) * 1000 + -(-int(time.nanos) // 1_000_000)
