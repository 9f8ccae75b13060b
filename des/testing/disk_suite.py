"""What every `Disk` does; a test class inherits it and gives the fixture `disk`."""

import pytest

from des.storage.disk import Disk


class DiskSuite:
    """The contract of the `Disk` door."""

    def test_written_bytes_are_read_back(self, disk: Disk) -> None:
        """Offsets count from the start of the file, and buffers follow each other."""
        file = disk.create("a")
        assert file.pwrite([b"one", b"", b"two"], 4) == 6
        assert file.pread(6, 4) == b"onetwo"
        assert file.size() == 10

    def test_a_gap_reads_as_zeros(self, disk: Disk) -> None:
        """Bytes before the first write."""
        file = disk.create("a")
        file.pwrite([b"x"], 3)
        assert file.pread(4, 0) == b"\0\0\0x"

    def test_reads_end_with_the_file(self, disk: Disk) -> None:
        """A read across the end is short, one behind it is empty."""
        file = disk.create("a")
        file.pwrite([b"abc"], 0)
        assert file.pread(10, 1) == b"bc"
        assert file.pread(10, 3) == b""
        assert file.pread(10, 99) == b""

    def test_a_cached_read_gives_all_or_none(self, disk: Disk) -> None:
        """Never a part of what was asked."""
        file = disk.create("a")
        file.pwrite([b"abc"], 0)
        for _ in range(20):
            assert file.pread_cached(3, 0) in {None, b"abc"}
            assert file.pread_cached(4, 0) is None

    def test_any_number_of_buffers_may_be_given(self, disk: Disk) -> None:
        """More than one system call takes: the rest is a short write."""
        buffers = [bytes([n % 251]) * 3 for n in range(5000)]
        file = disk.create("a")
        taken = file.pwrite(buffers, 0)
        assert 0 < taken <= 15_000
        assert file.pread(taken, 0) == b"".join(buffers)[:taken]

    def test_allocating_gives_zeros_and_keeps_content(self, disk: Disk) -> None:
        """A reserved file has its whole length; reserving less than there is changes nothing."""
        file = disk.create("a")
        file.pwrite([b"abc"], 0)
        file.allocate(8)
        assert file.pread(99, 0) == b"abc\0\0\0\0\0"
        file.allocate(2)
        assert file.size() == 8

    def test_truncating_cuts_and_extends(self, disk: Disk) -> None:
        """What was cut does not come back."""
        file = disk.create("a")
        file.pwrite([b"abcdef"], 0)
        file.truncate(2)
        file.truncate(4)
        file.sync()
        assert file.pread(99, 0) == b"ab\0\0"

    def test_a_path_is_created_once(self, disk: Disk) -> None:
        """Nothing is overwritten by creating."""
        disk.create("a").close()
        with pytest.raises(FileExistsError):
            disk.create("a")

    def test_an_absent_file_is_not_opened(self, disk: Disk) -> None:
        """Opening never creates."""
        with pytest.raises(FileNotFoundError):
            disk.open("a")
        with pytest.raises(FileNotFoundError):
            disk.create("no/folder")
        assert disk.list("") == []

    def test_an_opened_file_is_the_same_file(self, disk: Disk) -> None:
        """Two handles see one content."""
        first = disk.create("a")
        second = disk.open("a")
        second.pwrite([b"abc"], 0)
        assert first.pread(3, 0) == b"abc"

    def test_a_closed_file_refuses_and_closes_twice(self, disk: Disk) -> None:
        """A handle never becomes another file's."""
        file = disk.create("a")
        file.close()
        file.close()
        with pytest.raises(OSError, match="closed"):
            file.pread(1, 0)
        with pytest.raises(OSError, match="closed"):
            file.sync()

    def test_folders_are_listed_in_order(self, disk: Disk) -> None:
        """Names only, sorted; an absent folder is empty; making one twice is fine."""
        disk.make_directory("log/deep")
        disk.make_directory("log/deep")
        for name in ("c", "a", "b"):
            disk.create(f"log/{name}").close()
        assert disk.list("log") == ["a", "b", "c", "deep"]
        assert disk.list("absent") == []

    def test_a_rename_replaces_and_old_handles_live_on(self, disk: Disk) -> None:
        """Readers of a replaced file are not disturbed."""
        old = disk.create("a")
        old.pwrite([b"old"], 0)
        new = disk.create("b")
        new.pwrite([b"new"], 0)
        disk.rename("b", "a")
        disk.sync_directory("")
        assert disk.list("") == ["a"]
        assert disk.open("a").pread(3, 0) == b"new"
        assert old.pread(3, 0) == b"old"

    def test_removing_is_repeatable_and_open_handles_live_on(self, disk: Disk) -> None:
        """An absent file is fine."""
        file = disk.create("a")
        file.pwrite([b"abc"], 0)
        disk.remove("a")
        disk.remove("a")
        assert disk.list("") == []
        assert file.pread(3, 0) == b"abc"

    def test_a_lock_is_held_once(self, disk: Disk) -> None:
        """Until it is released."""
        lock = disk.lock("lock")
        with pytest.raises(BlockingIOError):
            disk.lock("lock")
        lock.release()
        lock.release()
        again = disk.lock("lock")
        lock.release()
        with pytest.raises(BlockingIOError):
            disk.lock("lock")
        again.release()

    def test_there_is_room(self, disk: Disk) -> None:
        """Free bytes are counted."""
        assert disk.free_bytes() > 0
