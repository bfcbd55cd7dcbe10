"""How long a classic NetCDF file must be: the NetCDF library reads a cut one as zeros.

Source: the classic format specification (NetCDF Users Guide, appendix "File Format Specifications")
and CDF-5 of PnetCDF.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
MAX_HEADER_ITEMS = 1 << 20


def expected_bytes(path: Path) -> int | None:
    """Bytes that the header promises, or None for another format than CDF-1, 2 or 5.

    Raises:
        ValueError: the header itself is cut off or makes no sense.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        if magic[:3] != b"CDF" or magic[3:] not in (b"\x01", b"\x02", b"\x05"):
            return None
        return _Header(file, magic[3]).end()


class _Header:
    def __init__(self, file: BinaryIO, version: int) -> None:
        self._file = file
        self._count = ">q" if version == 5 else ">i"  # how counts and sizes are written
        self._offset = ">i" if version == 1 else ">q"

    def end(self) -> int:
        """End of the last variable; of those that grow by records, of all their records."""
        n_records = max(self._number(self._count), 0)
        lengths = []
        for _ in range(self._list()):
            self._name()
            lengths.append(self._number(self._count))
        self._attributes()
        ends, record = [self._file.tell()], []
        for _ in range(self._list()):
            self._name()
            shape = [lengths[self._number(self._count)] for _ in range(self._items())]
            self._attributes()
            item = ITEM_BYTES[self._number(">i")]
            self._number(self._count)  # padded size: follows from the shape
            begin = self._number(self._offset)
            if shape and shape[0] == 0:
                record.append((begin, item * math.prod(shape[1:])))
            else:
                ends.append(begin + item * math.prod(shape))
        if record and n_records:
            # The records of several variables are interleaved, each padded to four bytes.
            step = sum(size if len(record) == 1 else -(-size // 4) * 4 for _, size in record)
            ends += [begin + step * (n_records - 1) + size for begin, size in record]
        return max(ends)

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

    def _list(self) -> int:
        self._number(">i")  # tag
        return self._items()

    def _name(self) -> None:
        self._skip(self._items())

    def _attributes(self) -> None:
        for _ in range(self._list()):
            self._name()
            item = ITEM_BYTES[self._number(">i")]
            self._skip(item * self._items())

    def _skip(self, n_bytes: int) -> None:
        self._file.seek(-(-n_bytes // 4) * 4, 1)
