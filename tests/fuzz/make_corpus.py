"""Write the corpus that fuzzing starts from: small sound inputs of every target. `make fuzz-corpus`."""

import io
import json
from pathlib import Path

import zstandard

from des.core import DesWriter
from des.format.compressor import Compressor
from des.format.footer import FOOTER_SIZE, Footer
from des.format.system_metadata import SystemMetadata

CORPUS = Path(__file__).parent / "corpus"
TEXT = b"what a log says, it says often; " * 20


def container(*, layout: str = "framed", ext: bool = True, compressor: Compressor | None = None) -> bytes:
    target = io.BytesIO()
    with DesWriter(target, layout=layout, ext=ext, compressor=compressor) as writer:
        writer.add_file("a.txt", b"hello", metadata={"k": "v"})
        writer.add_file("empty", b"")
        writer.add_file("text", TEXT, system=SystemMetadata(content_type="text/plain"))
        writer.add_external("outside", size=5, external_key="k")
    return target.getvalue()


def compressor() -> Compressor:
    samples = [json.dumps({"id": n, "name": f"user{n * 7919}", "of": "fuzz"}).encode() for n in range(300)]
    return Compressor({"text/plain": zstandard.train_dictionary(512, samples, dict_id=1 << 15).as_bytes()})


def inputs() -> dict[str, bytes]:
    framed = container(ext=False)
    whole = container(compressor=compressor())
    footer = Footer.decode(framed[-FOOTER_SIZE:])
    made = {
        "container/framed": framed,
        "container/framed-ext": whole,
        "container/v1": container(layout="v1", ext=False),
        "container/v1-ext": container(layout="v1"),
        "container/compressed": container(ext=False, compressor=compressor()),
        "container/truncated": framed[:-40],
        "index/framed": bytes([4])
        + (footer.data_length).to_bytes(2, "little")
        + bytes(2)
        + framed[footer.index_start : footer.index_stop],
        "frame/raw": framed[16:76],
        "metadata/user": b'{"k":"v","size":5,"_des":{"crc32c":"9a71bb4c","content_type":"text/plain"}}',
        "metadata/blocks": b'{"size":65537,"_des":{"block_size":65536,"block_crc32c":"AAAAAAEAAAA="}}',
        "metadata/external": b'{"size":5,"is_external":true,"external_key":"k"}',
        "zstd/plain": len(TEXT).to_bytes(3, "little") + zstandard.ZstdCompressor().compress(TEXT),
        "zstd/zeros": (1 << 20).to_bytes(3, "little") + zstandard.ZstdCompressor().compress(bytes(1 << 20)),
    }
    empty = io.BytesIO()
    with DesWriter(empty):
        pass
    made["ext/empty"] = empty.getvalue()[16:-FOOTER_SIZE]
    made["ext/sections"] = whole[Footer.decode(whole[-FOOTER_SIZE:]).index_stop : -FOOTER_SIZE]
    return made


if __name__ == "__main__":
    for name, data in inputs().items():
        path = CORPUS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
