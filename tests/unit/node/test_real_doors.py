"""The embedded default: a node over the machine's own disk."""

import google_crc32c

from des.config import load_settings
from des.files import FileSpec
from des.node import Node


async def test_nobody_else_can_read_what_a_store_keeps(tmp_path) -> None:
    folder = tmp_path / "parent" / "data"
    node = await Node.open(load_settings(data_dir=folder, shard_bits=1, big_file_bytes=1 << 20))
    try:
        file = (await node.put_bytes(FileSpec(), b"x", google_crc32c.value(b"x"))).file
        await node.seal_shard(file.shard)
        upload = await node.begin_put(FileSpec())
        for _ in range(2):
            await upload.write(bytes(1 << 20))
        await upload.finish(None)
    finally:
        await node.close()
    paths = [folder, *folder.rglob("*")]
    open_to_others = {str(path): oct(path.stat().st_mode) for path in paths if path.stat().st_mode & 0o077}
    assert open_to_others == {}
    assert len(paths) > 8
