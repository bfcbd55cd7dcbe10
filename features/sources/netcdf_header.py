"""What a NetCDF file's header promises, read strictly before the NetCDF library sees it.

The library reads a cut classic file as zeros, two variables at one place as they lie, and allocates
what a damaged header counts. Source: the classic format specification (NetCDF Users Guide, appendix
"File Format Specifications"), CDF-5 of PnetCDF, and the superblock of the HDF5 file format.
"""

from __future__ import annotations

import itertools
import math
import struct
from pathlib import Path
from typing import BinaryIO

ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
N_TYPES = {1: 6, 2: 6, 5: 11}  # by version
ABSENT, DIMENSIONS, VARIABLES, ATTRIBUTES = 0, 10, 11, 12
MAX_HEADER_ITEMS = 1 << 20
MAX_NAME_BYTES = 256
HDF5 = b"\x89HDF\r\n\x1a\n"
END_ADDRESS = {0: 40, 1: 44, 2: 28, 3: 28}  # where the superblock of a version says the file's end


def expected_bytes(path: Path) -> int:
    """Bytes that the header promises.

    Raises:
        ValueError: another format, or the header itself is cut off or makes no sense.
    """
    with path.open("rb") as file:
        start = file.read(52)
        version = int.from_bytes(start[3:4])
        if start[:3] == b"CDF" and version in N_TYPES:
            file.seek(4)
            return _Header(file, version).end()
        if start[:8] != HDF5:
            raise ValueError("it begins as no NetCDF file does")
        # NetCDF-4 is HDF5, whose library checks the rest itself.
        at = END_ADDRESS.get(start[8]) if len(start) == 52 else None
        if at is None:
            raise ValueError("its header is cut off, or of a newer HDF5")
        return int.from_bytes(start[at : at + 8], "little")


class _Header:
    def __init__(self, file: BinaryIO, version: int) -> None:
        self._file, self._n_types = file, N_TYPES[version]
        self._size = file.seek(0, 2)
        file.seek(4)
        self._count = ">q" if version == 5 else ">i"  # how counts and sizes are written
        self._offset = ">i" if version == 1 else ">q"

    def end(self) -> int:
        """End of the last variable; of those that grow by records, of all their records."""
        n_records = self._number(self._count)
        names, lengths = [], []
        for _ in range(self._list(DIMENSIONS)):
            names.append(self._name())
            lengths.append(self._number(self._count))
        _check_names(names, "dimension")
        if n_records < 0 or min(lengths, default=0) < 0 or lengths.count(0) > 1:
            raise ValueError("the header has a size below 0, or two dimensions that grow")
        self._attributes()
        names, places, record = [], [], []
        for _ in range(self._list(VARIABLES)):
            names.append(self._name())
            shape = [self._length(lengths) for _ in range(self._items())]
            self._attributes()
            item = self._item_bytes()
            said, begin = self._number(self._count), self._number(self._offset)
            grows = bool(shape) and shape[0] == 0
            size = item * math.prod(shape[grows:])
            # In 32 bits what is too large can't be said.
            is_said = said in (size, _padded(size)) or size >= 2**31 - 4
            if 0 in shape[grows:] or not is_said:
                raise ValueError(
                    f"the size of variable '{names[-1]}' is not that of its dimensions"
                )
            if grows:
                record.append((begin, size))
            else:
                places.append((begin, begin + size))
        _check_names(names, "variable")
        if record:
            places.append(_records(record, n_records))
        return _check_places(self._file.tell(), places)

    def _number(self, form: str) -> int:
        size = struct.calcsize(form)
        data = self._file.read(size)
        if len(data) < size:
            raise ValueError("the header is cut off")
        return int(struct.unpack(form, data)[0])

    def _items(self) -> int:
        n = self._number(self._count)
        if not 0 <= n < MAX_HEADER_ITEMS:
            raise ValueError(f"the header counts {n} items")
        return n

    def _list(self, wanted: int) -> int:
        tag, n = self._number(">i"), self._items()
        if tag != wanted and (tag, n) != (ABSENT, 0):
            raise ValueError(f"its header has {tag} where {wanted} is expected")
        return n

    def _name(self) -> str:
        n = self._items()
        data = self._file.read(_padded(n))[:n] if n <= MAX_NAME_BYTES else b""
        name = data.decode()
        if not name or len(data) < n or "/" in name or not name.isprintable():
            raise ValueError(f"the header holds a name of {n} bytes that is none")
        return name

    def _length(self, lengths: list[int]) -> int:
        number = self._number(self._count if self._n_types > 6 else ">i")
        if not 0 <= number < len(lengths):
            raise ValueError(f"a variable has dimension {number} of {len(lengths)}")
        return lengths[number]

    def _item_bytes(self) -> int:
        number = self._number(">i")
        if not 1 <= number <= self._n_types:
            raise ValueError(f"the header has values of type {number}")
        return ITEM_BYTES[number]

    def _attributes(self) -> None:
        names = []
        for _ in range(self._list(ATTRIBUTES)):
            names.append(self._name())
            n_bytes = self._item_bytes() * self._items()
            if self._file.seek(_padded(n_bytes), 1) > self._size:
                raise ValueError("the header is cut off")
        _check_names(names, "attribute")


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // 4) * 4


def _records(record: list[tuple[int, int]], n_records: int) -> tuple[int, int]:
    """From where to where the records of several variables lie, each padded to four bytes."""
    record = sorted(record)
    step = sum(size if len(record) == 1 else _padded(size) for _, size in record)
    for (begin, size), (after, _) in itertools.pairwise(record):
        if begin + size > after:
            raise ValueError("two variables lie in one place")
    last, size = record[-1]
    return record[0][0], last + step * (n_records - 1) + size if n_records else record[0][0]


def _check_names(names: list[str], what: str) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"two of its {what}s have one name")


def _check_places(header_end: int, places: list[tuple[int, int]]) -> int:
    end = header_end
    for begin, after in sorted(places):
        if begin < end:
            raise ValueError("two variables lie in one place, or one in the header")
        end = max(end, after)
    return end
