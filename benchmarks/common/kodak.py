"""Kodak's 24 photographs: a folder that has them, or a download into the user's cache."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from pathlib import Path

import imageio.v3 as iio
from tqdm import tqdm

from taichi2dgs.storage import files

SOURCE = "https://r0k.us/graphics/kodak/kodak"
TIMEOUT = 30  # seconds without an answer
# The first 16 digits of the SHA-256 of each picture's decoded pixels, row by row, RGB.
DIGESTS = (
    "a002107433535944", "ae5a495df4ec40e0", "234e61f585503f2a", "e88e788fca00e6c7",
    "ed3d1ee770909d3b", "7f45158999fa297d", "4e3664bf6fe865b4", "889c3740e4ed54ca",
    "f8453140e63a4230", "fabe11b5c4f02839", "ab4dd9bf8431e717", "f412db2168e59994",
    "875703d56fb9396f", "2bd5029ee75ac169", "b5353e7511277009", "ed21745fd32fce95",
    "566bc866664e9b06", "3475af71066f3ca8", "7956408ef24222d3", "666ce8f2db5566a1",
    "2d6902daf7c4486b", "f430842120c108b6", "81992a83592267e6", "e3e3ccc3e795b82a",
)  # fmt: skip


def cache() -> Path:
    """Return where downloads go: XDG_CACHE_HOME, or .cache in the home folder."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "taichi2dgs" / "kodak"


def fetch(count: int, folder: Path | None = None, source: str = SOURCE) -> Path:
    """Return a folder with the first `count` photographs, downloading those that are missing.

    Args:
        count: 1 to 24.
        folder: where to; see `cache`.
        source: address of a folder with kodim01.png and so on.

    Raises:
        ValueError: a picture cannot be had, or is not the one that it should be.
    """
    if not 1 <= count <= len(DIGESTS):
        raise ValueError(f"--images {count}: expected 1 to {len(DIGESTS)}")
    folder = folder or cache()
    names = [f"kodim{number:02d}.png" for number in range(1, count + 1)]
    missing = [name for name in names if not (folder / name).exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for name in tqdm(missing, "download Kodak", unit="picture", disable=not missing):
        try:
            with urllib.request.urlopen(f"{source}/{name}", timeout=TIMEOUT) as answer:
                content = answer.read()
        except OSError as error:
            raise ValueError(
                f"{folder}: has no {name}, and {source} cannot be reached ({error}); expected "
                "--data FOLDER with kodim01.png to kodim24.png"
            ) from error
        check(content, name)
        with files.replacing(folder / name) as temporary:
            Path(temporary).write_bytes(content)
    return folder


def check(content: bytes, name: str) -> None:
    """Raise ValueError unless a file has the pixels of the photograph of that name."""
    try:
        digest = hashlib.sha256(iio.imread(content, plugin="pillow").tobytes()).hexdigest()
    except Exception as error:  # decoders raise anything
        raise ValueError(f"{name}: not a picture ({error})") from error
    expected = DIGESTS[int(name[5:7]) - 1]
    if not digest.startswith(expected):
        raise ValueError(f"{name}: its pixels hash to {digest[:16]}; expected {expected}")
