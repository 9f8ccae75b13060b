"""What a write waits for beyond this node's disk, and what its answer says it has reached."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from des.errors import DesError
from des.files import Durability, FileInfo, FileSpec, FileState
from des.ingest.facts import FileFacts
from des.ingest.open_index import OpenIndex
from des.ingest.values import OpenFile
from des.node.put_result import PutResult
from des.packer.log_shipper import LogShipper


class StoredAcks:
    """Turns answers of durability `local` into `stored` ones where they are asked for."""

    def __init__(
        self,
        *,
        default: Durability,
        shipper: LogShipper,
        open_index: OpenIndex,
        stat: Callable[[str], Awaitable[FileInfo]],
        describe: Callable[[OpenFile, FileFacts], FileInfo],
    ) -> None:
        """Connect the parts.

        Args:
            default: what a specification without durability waits for.
            shipper: brings open files to the object store.
            open_index: says which files are open.
            stat: describes any file; raises NotFoundError for none.
            describe: describes an open file.
        """
        self._default = default
        self._shipper = shipper
        self._open_index = open_index
        self._stat = stat
        self._describe = describe

    def wants(self, spec: FileSpec) -> bool:
        """Whether a write of `spec` is answered only when its file is stored."""
        return (spec.durability or self._default) is Durability.STORED

    async def admit(self, spec: FileSpec) -> None:
        """Refuse, before a byte is taken, a durability that this store does not serve.

        Raises:
            DisabledError: losing the node's disk would lose the object store.
            UnavailableError: what the store honours is not known now.
        """
        if self.wants(spec):
            await self._shipper.check_served()

    async def one(self, spec: FileSpec, result: PutResult) -> PutResult:
        """Wait for what `spec` asks for; return the answer, saying what was reached.

        Raises:
            NotStoredYetError: in time it was not known to be stored; the file is on this node's disk.
        """
        (reached,) = await self.many([spec], [result])
        if isinstance(reached, DesError):
            raise reached
        return reached

    async def many(
        self, specs: Sequence[FileSpec], results: Sequence[PutResult | DesError]
    ) -> list[PutResult | DesError]:
        """Wait once for what each of many writes asks for; errors stay in their places."""
        reached: list[PutResult | DesError] = list(results)
        waiting: dict[int, OpenFile] = {}
        for at, (spec, result) in enumerate(zip(specs, results, strict=True)):
            if isinstance(result, DesError):
                continue
            opened = None if result.file.state is FileState.STORED else self._open_index.get(result.file.name)
            if opened is None or self._shipper.is_stored(opened):
                reached[at] = replace(result, durability=Durability.STORED)
            elif self.wants(spec):
                waiting[at] = opened
        if waiting:
            errors = await self._shipper.wait_stored(list(waiting.values()))
            for at, error in zip(waiting, errors, strict=True):
                result = results[at]
                assert isinstance(result, PutResult)
                reached[at] = error or replace(result, durability=Durability.STORED)
        return reached

    async def wait(self, names: Sequence[str]) -> list[FileInfo | DesError]:
        """Return each named file once it is stored, or why that is not known, in order.

        Raises:
            DisabledError: this store does not serve it.
        """
        await self._shipper.check_served()
        opened = {name: file for name in names if (file := self._open_index.get(name)) is not None}
        errors = dict(zip(opened, await self._shipper.wait_stored(list(opened.values())), strict=True))
        return [errors.get(name) or await self._describe_one(name, opened.get(name)) for name in names]

    async def _describe_one(self, name: str, opened: OpenFile | None) -> FileInfo | DesError:
        if opened is not None:
            return self._describe(opened, FileFacts.decode(opened.facts))
        try:
            return await self._stat(name)
        except DesError as error:
            return error
