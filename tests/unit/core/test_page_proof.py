"""HASHPAGES held against INDEX for all files at once: what a reader would not find is not proven."""

import io
import random

import pytest

from des.core import DesWriter
from des.core.page_proof import leads_to_all
from des.core.paged_index import check_all_pages
from des.format.compressor import Compressor, Samples
from des.format.ext import ExtGeometry
from des.format.hash_pages import PAGE_HEADER_SIZE, PAGE_SIZE, RECORD_SIZE, record_count

COUNT = 700


class Container:
    """A container with stored, compressed, empty and external files, and its pages."""

    def __init__(self, *, layout: str = "framed") -> None:
        stream = io.BytesIO()
        framed = layout == "framed"
        compressor = Compressor.train(Samples.choose([]), {}) if framed else None
        writer = DesWriter(stream, layout=layout, compressor=compressor)
        rng = random.Random(1)
        for n in range(COUNT):
            data = rng.randbytes(300) if n % 3 else b"again and again " * (n % 40)
            if n % 50 == 7:
                writer.add_external(f"file-{n}", size=1 << 33, external_key="k")
            else:
                writer.add_file(f"file-{n}", data, metadata={"n": n})
        self.footer = writer.finish()
        self.index = writer.index
        geometry = ExtGeometry.of(writer.ext, self.footer)
        assert geometry is not None
        self.pages = geometry.pages
        data = stream.getvalue()[self.pages.start : self.pages.start + self.pages.length]
        self.data = data
        self.held = [data[start : start + PAGE_SIZE] for start in range(0, len(data), PAGE_SIZE)]

    def is_proven(self, held: list[bytes]) -> bool:
        return leads_to_all(self.pages, held, self.index, self.footer)


@pytest.fixture(scope="module")
def container() -> Container:
    return Container()


def changed(page: bytes, place: int, bit: int) -> bytes:
    byte, mask = place + bit // 8, 1 << bit % 8
    return page[:byte] + bytes([page[byte] ^ mask]) + page[byte + 1 :]


def test_what_a_writer_made_is_proven(container: Container) -> None:
    assert any(entry.is_compressed for entry in container.index)
    assert any(entry.is_external for entry in container.index)
    assert container.is_proven(container.held)
    check_all_pages(container.pages, container.data, container.index, container.footer)


@pytest.mark.parametrize("number", [0, 1, 40])
def test_any_bit_of_a_record_matters_but_which_codec_it_is(container: Container, number: int) -> None:
    place = PAGE_HEADER_SIZE + number * RECORD_SIZE
    proven = [
        bit
        for bit in range(8 * RECORD_SIZE)
        if container.is_proven([changed(container.held[0], place, bit), *container.held[1:]])
    ]
    # The four bits of the codec's slot, whose value only the frame confirms.
    assert set(proven) <= set(range(8 * 23 + 4, 8 * 24))


def test_records_in_another_page_are_not_proven(container: Container) -> None:
    first, *_, last = container.held
    assert record_count(last) > 0
    start, stop = PAGE_HEADER_SIZE, PAGE_HEADER_SIZE + RECORD_SIZE
    swapped = [
        first[:start] + last[start:stop] + first[stop:],
        *container.held[1:-1],
        last[:start] + first[start:stop] + last[stop:],
    ]
    assert len(container.held) > 3
    assert not container.is_proven(swapped)


def test_a_file_doubled_in_place_of_another_is_not_proven(container: Container) -> None:
    page = container.held[0]
    start = PAGE_HEADER_SIZE
    doubled = page[:start] + page[start + RECORD_SIZE : start + 2 * RECORD_SIZE] + page[start + RECORD_SIZE :]
    assert not container.is_proven([doubled, *container.held[1:]])


def test_other_files_are_not_proven_by_these_pages(container: Container) -> None:
    other = Container(layout="v1")
    assert not leads_to_all(container.pages, container.held, other.index, other.footer)
    check_all_pages(other.pages, other.data, other.index, other.footer)  # one by one
