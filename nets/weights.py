"""Weights on disk: named by network and content, each with a card of where it comes from."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeAlias

import torch

from nets.prior import AttributeNet, PositionNet
from nets.unet import Shape, UNet

Net: TypeAlias = PositionNet | AttributeNet
NETS: dict[str, type[Net]] = {"position": PositionNet, "attributes": AttributeNet}
SHIPPED = Path(__file__).parent / "weights"
SHAPE = [field.name for field in fields(Shape)]  # older weights lack the last ones
DIGITS = 8  # digits of the hash in the name of a file


def save(net: Net, name: str, folder: str | Path, card: dict[str, Any]) -> Path:
    """Write a network in half precision as `<name>-<sha8>.pt`, and its card beside it as JSON.

    Args:
        net: its class is the one that `NETS` has for the name.
        name: "position" or "attributes"; older weights of that name in the folder go.
        folder: where to.
        card: what to know about the weights: data, licence, commit, config, validation.

    Returns:
        The file of weights.
    """
    state = {
        key: tensor.half() if tensor.dim() > 1 else tensor
        for key, tensor in net.state_dict().items()
    }
    buffer = io.BytesIO()
    unet: UNet = net.unet
    torch.save({"net": name, **asdict(unet.shape), "state": state}, buffer)
    content = buffer.getvalue()
    sha = hashlib.sha256(content).hexdigest()
    for old in Path(folder).glob(f"{name}-*"):
        old.unlink()
    path = Path(folder) / f"{name}-{sha[:DIGITS]}.pt"
    path.write_bytes(content)
    card = {
        "net": name,
        "sha256": sha,
        "parameters": sum(p.numel() for p in net.parameters()),
        **card,
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return path


def file(name: str, folder: str | Path = SHIPPED) -> Path:
    """Return the one file of weights of that name in a folder.

    Raises:
        ValueError: there is none, or more than one, or the folder cannot be read.
    """
    try:
        found = sorted(Path(folder).glob(f"{name}-*.pt"))
    except (OSError, ValueError) as error:  # a name too long, or with a null character
        raise ValueError(f"{folder}: cannot be looked into ({error}); expected a folder") from error
    if len(found) != 1:
        raise ValueError(
            f"{Path(folder) / name}-<sha8>.pt: {len(found) or 'no'} such files; expected one"
        )
    return found[0]


def folder_of(run: str | Path) -> Path:
    """Return the folder of a run; that of the shipped weights by the name "shipped"."""
    return SHIPPED if run == "shipped" else Path(run)


def copy(name: str, source: str | Path, target: str | Path) -> None:
    """Copy weights and their card to another folder, in place of what is there of that name."""
    path = file(name, source)
    if path.parent.resolve() == Path(target).resolve():
        return
    for old in Path(target).glob(f"{name}-*"):
        old.unlink()
    for part in (path, path.with_suffix(".json")):
        shutil.copy(part, target)


def load(name: str, folder: str | Path = SHIPPED) -> Net:
    """Read the network of that name from a folder of weights, ready for inference.

    Raises:
        ValueError: there is not exactly one such file, its content is not what its name says, or
            it is not a network of that kind; the message names the file.
    """
    path = file(name, folder)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    digits = re.fullmatch(rf"{name}-([0-9a-f]{{{DIGITS}}})\.pt", path.name)
    sha = hashlib.sha256(content).hexdigest()
    if not digits or digits[1] != sha[:DIGITS]:
        raise ValueError(
            f"{path}: damaged: its hash begins with {sha[:DIGITS]}, not as its name says"
        )
    try:
        stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        net = _made(NETS[name], stored)
    except Exception as error:  # a pickle of anything else raises anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path}: not weights of the {name} network ({reason})") from error
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.eval()


def _made(kind: type[Net], stored: dict[str, Any]) -> Net:
    """Return a network of stored weights, which takes nothing from torch's global state.

    On the meta device nothing is drawn: torch's random numbers stay where they are. The weights
    themselves become the parameters, so that torch's default type and device do not matter.
    """
    with torch.device("meta"):
        net = kind(Shape(**{part: stored[part] for part in SHAPE if part in stored}))
    state = {
        key: tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in stored["state"].items()
    }
    net.load_state_dict(state, assign=True)
    return net
