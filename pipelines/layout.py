"""What a data set of Gaussians looks like."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.defaults import QUALITY, K
from pipelines.encoding import Encoding
from taichi2dgs.checks import shown, whole
from taichi2dgs.gaussians import GEOMETRY
from taichi2dgs.settings import DTYPES, SETS
from taichi2dgs.storage.maps import MOST


@dataclass(frozen=True)
class Layout:
    """What a data set looks like.

    Args:
        format: "npz", "parquet" or "webdataset".
        dtype: of the arrays, "float32" or "float16".
        channels: 1 grey, 3 colours, 2 and 4 with opacity; pictures are brought to it.
        shard_size: pictures in a file; as many as have 64 MiB if None.

    Raises:
        ValueError: an argument is none of these.
    """

    format: str
    dtype: str = DTYPES[0]
    channels: int = 3
    shard_size: int | None = None

    def __post_init__(self) -> None:
        for name, known in (("format", SETS), ("dtype", DTYPES)):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in known:
                raise ValueError(f"{name}={shown(value)}; expected one of {', '.join(known)}")
        whole(self.channels, "channels", 1, MOST)
        if self.shard_size is not None:
            whole(self.shard_size, "shard_size", 1)

    def shape(self, encoding: Encoding) -> tuple[int, int]:
        """Return the shape of a picture's array.

        Raises:
            ValueError: the number of Gaussians is to be searched for, or something is asked for
                that only .t2d files have.
        """
        if encoding.searches:
            names = ("k", "target_psnr", "target_bytes")
            name = next(name for name in names if getattr(encoding, name) is not None)
            raise ValueError(
                f"{name}={shown(getattr(encoding, name))} with format={self.format}, whose arrays "
                "are of one shape; expected a number k"
            )
        plain = {"quality": QUALITY, "refine": None, "progressive": False}
        for name, value in plain.items():
            if getattr(encoding, name) != value:
                raise ValueError(
                    f"{name}={shown(getattr(encoding, name))} with format={self.format}; only .t2d "
                    "files have one"
                )
        return int(encoding.k or K), GEOMETRY + self.channels
