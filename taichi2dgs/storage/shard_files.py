"""Files of shards of a data set; docs/sets.md has their layouts.

Reading starts nothing and keeps no file open, so that processes may fork at any time.
"""

from __future__ import annotations

import bisect
import importlib
import io
import json
import math
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from taichi2dgs.gaussians import GEOMETRY
from taichi2dgs.settings import DTYPES, MAX_CHANNELS, SETS
from taichi2dgs.storage.paths import one_line, writing
from taichi2dgs.storage.shards import Shard

GROUP = 1 << 20  # bytes of a row group of Parquet, which one picture makes a reader decode
ABOUT = b"taichi2dgs"  # where a Parquet file has what its pictures share
OWN = ("name", "height", "width", "psnr")  # of each picture in a tar file's JSON
LOCAL = struct.Struct("<26xHH")  # lengths of name and extra field, at the end of a ZIP entry's head


def check_package(form: str) -> None:
    """Raise ValueError if a format needs a package that is not there."""
    if form == "parquet":
        _parquet()


def write(path: Path, shard: Shard) -> None:
    """Write a file, complete or not at all; its ending names the format. `params` is one array.

    Raises:
        WriteError: it cannot be written; the message names it.
    """
    with writing(path) as temporary:
        _WRITERS[path.suffix](temporary, shard)


def read(path: Path) -> Shard:
    """Read a file, but for its parameters, which are read when they are asked for.

    Raises:
        ValueError: it is missing, damaged or holds something else, or needs a package; the message
            names it.
    """
    try:
        shard = _READERS[path.suffix](path)
        _check(shard)
    except Exception as error:  # whatever a library makes of damaged bytes
        raise ValueError(f"{path}: no shard of Gaussians ({one_line(error)})") from error
    return shard


def _check(shard: Shard) -> None:
    columns, n = shard.about["columns"], len(shard.names)
    k, width = shard.params.shape
    counts = {len(part) for part in (shard.index, shard.labels, shard.sizes, shard.psnr)}
    if (
        shard.about["version"] != 1
        or counts != {n}
        or shard.sizes.shape != (n, 2)
        or len(columns) != width
        or not GEOMETRY < width <= GEOMETRY + MAX_CHANNELS
        or str(shard.params.dtype) not in DTYPES
    ):
        raise ValueError(f"version {shard.about['version']}, {n} pictures of shape {[k, width]}")


def _write_npz(path: str, shard: Shard) -> None:
    np.savez(
        path, gaussians=shard.params, index=shard.index, name=np.array(shard.names, dtype=str),
        label=shard.labels, size=shard.sizes, psnr=shard.psnr,
        about=np.array(json.dumps(shard.about)),
    )  # fmt: skip


def _read_npz(path: Path) -> Shard:
    with np.load(path, allow_pickle=False) as found:
        parts = {name: found[name] for name in found.files if name != "gaussians"}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as stream:
        entry = archive.getinfo("gaussians.npy")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its arrays are compressed")
        stream.seek(entry.header_offset)
        stream.seek(sum(LOCAL.unpack(stream.read(LOCAL.size))), io.SEEK_CUR)
        params = _Stored.at(path, stream, len(parts["name"]))
    names = [str(name) for name in parts["name"]]
    return Shard(
        json.loads(str(parts["about"])), parts["index"], names, parts["label"], parts["size"],
        parts["psnr"], params,
    )  # fmt: skip


@dataclass(frozen=True)
class _Stored:
    """Arrays that lie in a file as they are in memory: one for each picture.

    Args:
        path: of the file.
        offsets: where each begins, in bytes.
        shape, dtype: of each.
    """

    path: Path
    offsets: Any
    shape: tuple[int, int]
    dtype: np.dtype

    @classmethod
    def at(cls, path: Path, stream: BinaryIO, n: int | None = None) -> _Stored:
        """Return those of an array of NumPy that begins where a stream stands.

        Args:
            path: of the file.
            stream: of it.
            n: pictures, along the first axis of the array; None if it is of one picture.
        """
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("an array of another version of NumPy's format")
        whole, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        first, shape = whole[: len(whole) - 2], whole[-2:]
        if len(shape) != 2 or first != (() if n is None else (n,)) or is_fortran:
            raise ValueError(f"an array of shape {list(whole)}")
        step = math.prod(shape) * dtype.itemsize
        offsets = range(stream.tell(), stream.tell() + step * (n or 1), step or 1)
        return cls(path, offsets, shape, dtype)

    def __getitem__(self, n: int) -> np.ndarray:
        with open(self.path, "rb") as stream:
            stream.seek(self.offsets[n])
            found = np.fromfile(stream, self.dtype, math.prod(self.shape))
        if found.size < math.prod(self.shape):
            raise ValueError(f"{self.path}: no shard of Gaussians (cut off)")
        return found.reshape(self.shape)


def _write_parquet(path: str, shard: Shard) -> None:
    arrow, parquet = _parquet()
    _, k, width = shard.params.shape
    flat = arrow.array(np.ascontiguousarray(shard.params).reshape(-1))
    columns = {
        "index": arrow.array(shard.index),
        "name": arrow.array(shard.names),
        "label": arrow.array(shard.labels),
        "height": arrow.array(shard.sizes[:, 0]),
        "width": arrow.array(shard.sizes[:, 1]),
        "psnr": arrow.array(shard.psnr),
        "gaussians": arrow.FixedSizeListArray.from_arrays(flat, k * width),
    }
    table = arrow.table(columns).replace_schema_metadata({ABOUT: json.dumps(shard.about)})
    group = max(1, GROUP // (k * width * shard.params.itemsize))
    parquet.write_table(table, path, row_group_size=group, use_dictionary=False)


def _read_parquet(path: Path) -> Shard:
    _, parquet = _parquet()
    names = ["index", "name", "label", "height", "width", "psnr"]
    with parquet.ParquetFile(path, pre_buffer=False) as file:
        found = file.read(columns=names, use_threads=False)
        shared = json.loads(file.schema_arrow.metadata[ABOUT])
        kind, groups = file.schema_arrow.field("gaussians").type, file.metadata.num_row_groups
        counts = [file.metadata.row_group(n).num_rows for n in range(groups)]
    width = len(shared["columns"])
    part = {name: found.column(name).to_numpy() for name in names}
    return Shard(
        shared, part["index"], found.column("name").to_pylist(), part["label"],
        np.stack([part["height"], part["width"]], axis=1), part["psnr"],
        _RowGroups(path, [0, *np.cumsum(counts).tolist()], (kind.list_size // width, width),
                   np.dtype(kind.value_type.to_pandas_dtype())),
    )  # fmt: skip


class _RowGroups:
    """Arrays in a Parquet file. The group that was read last stays in memory."""

    def __init__(
        self, path: Path, begins: list[int], shape: tuple[int, int], dtype: np.dtype
    ) -> None:
        self.path, self.begins, self.shape, self.dtype = path, begins, shape, dtype
        self._last: tuple[int, np.ndarray] | None = None

    def __getitem__(self, n: int) -> np.ndarray:
        group = bisect.bisect_right(self.begins, n) - 1
        last = self._last
        if last is None or last[0] != group:
            _, parquet = _parquet()
            with parquet.ParquetFile(self.path, pre_buffer=False) as file:
                found = file.read_row_group(group, columns=["gaussians"], use_threads=False)
            flat = found.column("gaussians").combine_chunks().flatten()
            last = self._last = group, flat.to_numpy(zero_copy_only=False).reshape(-1, *self.shape)
        return last[1][n - self.begins[group]]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None}


def _parquet() -> tuple[Any, Any]:
    """Return pyarrow and its module for Parquet."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError("Parquet needs pyarrow: install the extra, taichi2dgs[datasets]") from None


def _write_tar(path: str, shard: Shard) -> None:
    shared = {name: value for name, value in shard.about.items() if name != "classes"}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for n, index in enumerate(shard.index.tolist()):
            stream = io.BytesIO()
            np.save(stream, shard.params[n])
            psnr = float(shard.psnr[n])
            own = {
                "name": shard.names[n],
                "height": int(shard.sizes[n, 0]),
                "width": int(shard.sizes[n, 1]),
                "psnr": psnr if math.isfinite(psnr) else None,  # JSON has no other word for it
            }
            parts = {
                "npy": stream.getvalue(),
                "cls": str(int(shard.labels[n])).encode(),
                "json": json.dumps(own | shared).encode(),
            }
            for ending, data in parts.items():
                entry = tarfile.TarInfo(f"{index:08d}.{ending}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))


def _read_tar(path: Path) -> Shard:
    found: dict[str, dict[str, Any]] = {}
    with open(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for entry in archive:
            key, _, ending = entry.name.partition(".")
            if ending == "npy":
                stream.seek(entry.offset_data)
                value: Any = _Stored.at(path, stream)
            else:
                value = json.loads(archive.extractfile(entry).read())  # type: ignore[union-attr]
            found.setdefault(key, {})[ending] = value
    each = list(found.values())
    arrays, own = [one["npy"] for one in each], [one["json"] for one in each]
    shape, dtype = arrays[0].shape, arrays[0].dtype
    if any((one.shape, one.dtype) != (shape, dtype) for one in arrays):
        raise ValueError("arrays of several shapes or types")
    psnr = [math.inf if one["psnr"] is None else one["psnr"] for one in own]
    shared = {name: value for name, value in own[0].items() if name not in OWN}
    return Shard(
        shared | {"classes": None}, np.array([int(key) for key in found]),
        [one["name"] for one in own], np.array([one["cls"] for one in each], np.int32),
        np.array([(one["height"], one["width"]) for one in own], np.int32),
        np.array(psnr, np.float32),
        _Stored(path, [one.offsets[0] for one in arrays], shape, dtype),
    )  # fmt: skip


_WRITERS: dict[str, Callable[[str, Shard], None]] = {
    SETS["npz"]: _write_npz, SETS["parquet"]: _write_parquet, SETS["webdataset"]: _write_tar,
}  # fmt: skip
_READERS: dict[str, Callable[[Path], Shard]] = {
    SETS["npz"]: _read_npz, SETS["parquet"]: _read_parquet, SETS["webdataset"]: _read_tar,
}  # fmt: skip
