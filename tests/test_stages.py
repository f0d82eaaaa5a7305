"""Small trainings of both stages in this process, killed at any place."""

import csv
import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from nets import weights
from pipelines.training import attributes, position, stage
from pipelines.training.attributes import AttributesConfig, AttributesStage
from pipelines.training.loop import Folder, Processes
from pipelines.training.position import PositionConfig, PositionStage
from taichi2dgs.storage import files

SMALL = {"width": 2, "patch": 1, "crop": 24, "crops": 2, "batch": 2, "learning_rate": 0.02}
POSITION = PositionConfig(**SMALL, valid_crops=1, rounds=2, threshold=0, steps=1, epochs=1)
ATTRIBUTES = AttributesConfig(**SMALL, valid_images=1, epochs=2, warm_up=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder of six pictures of coloured noise, two of which validate."""
    folder = tmp_path_factory.mktemp("data")
    generator = torch.Generator().manual_seed(1)
    for name, count in (("train", 4), ("valid", 2)):
        (folder / name).mkdir()
        for index in range(count):
            coarse = torch.rand(1, 3, 6, 8, generator=generator)
            image = torch.nn.functional.interpolate(coarse, (32, 40), mode="bicubic")[0]
            files.write_image(folder / name / f"{index}.png", image.clamp(0, 1).permute(1, 2, 0))
    return folder


def made(kind, config, data: Path, out: Path, begin: Path | None = None):
    return kind(str(data), None, str(out), config, Processes(), quiet=True, begin=begin)


def run(kind, config, data: Path, out: Path):
    """Train to the end, and return the log and the network's state."""
    done = made(kind, config, data, out)
    done.run()
    with open(out / "log.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file)), done.net.state_dict()


def same(first, second) -> bool:
    states = first[1], second[1]
    return first[0] == second[0] and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0]
    )


@pytest.fixture(scope="module")
def settling(data, tmp_path_factory) -> PositionConfig:
    """A configuration of Stage I whose threshold round 1 falls below and round 0 does not."""
    log, _ = run(PositionStage, POSITION, data, tmp_path_factory.mktemp("threshold"))
    ends = [float(row["change"]) for row in log if row["epoch"] == str(POSITION.epochs)]
    assert len(ends) == POSITION.rounds and ends[1] < ends[0]
    return replace(POSITION, rounds=3, threshold=(ends[0] + ends[1]) / 2)


def snapshots(kind, config, data: Path, folder: Path, places) -> tuple[object, list[Path]]:
    """Train to the end; return what came of it, and the folder as a kill would have left it.

    Args:
        kind, config, data: of the run.
        folder: for its own folder and those that it might have left.
        places: modules or classes and their functions, after each call of which it might end.
    """
    left: list[Path] = []

    def watched(work):
        def call(*args, **kwargs):
            result = work(*args, **kwargs)
            left.append(folder / f"{len(left):02d}-{work.__name__}")
            shutil.copytree(folder / "whole", left[-1])
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for place, name in places:
            patch.setattr(place, name, watched(getattr(place, name)))
        return run(kind, config, data, folder / "whole"), left


@pytest.mark.skipif(os.environ["TAICHI2DGS_BACKEND"] != "cpu", reason="exact on CPU only")
def test_stage_one_killed_anywhere_ends_as_if_it_had_not_been(settling, data, tmp_path):
    places = [(Folder, "log"), (Folder, "save"), (position, "fit_batch")]
    with pytest.MonkeyPatch.context() as patch:  # those that go on fit several crops at once
        patch.setattr(position, "AT_ONCE", 1)
        whole, left = snapshots(PositionStage, settling, data, tmp_path, places)
    assert [row["round"] for row in whole[0]] == ["0", "0", "1", "1"]  # it settled in round 1
    assert len(left) == 2 * (2 * 3) + 2 * (settling.crops + settling.valid_crops)
    for folder in left:
        assert same(run(PositionStage, settling, data, folder), whole), folder.name


@pytest.mark.skipif(os.environ["TAICHI2DGS_BACKEND"] != "cpu", reason="exact on CPU only")
@pytest.mark.parametrize("wait", [-1, 120], ids=["saved after each step", "saved after epochs"])
def test_stage_two_killed_anywhere_ends_as_if_it_had_not_been(wait, data, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SAVE_SECONDS", wait)
    config = replace(ATTRIBUTES, crops=4, average=0.5)
    places = [(Folder, "log"), (Folder, "save"), (stage, "descend")]
    whole, left = snapshots(AttributesStage, config, data, tmp_path, places)
    assert len(left) == 2 * 3 + 4 + (2 * 4 if wait < 0 else 0)
    for folder in left:
        assert same(run(AttributesStage, config, data, folder), whole), folder.name


def test_more_epochs_go_on_as_if_there_had_been_as_many_from_the_start(data, tmp_path):
    some = replace(ATTRIBUTES, epochs=2, decay=0.5)
    more = replace(some, epochs=4)
    whole = run(AttributesStage, more, data, tmp_path / "more")
    places = [(Folder, "save")]
    _, left = snapshots(AttributesStage, some, data, tmp_path, places)
    assert same(run(AttributesStage, more, data, left[1]), whole)  # saved after epoch 1 of 2
    with pytest.raises(ValueError, match="another epochs"):  # the rate has fallen
        run(AttributesStage, more, data, left[2])


def interrupted(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let the `number`-th fit from now on end by Ctrl-C."""
    done, work = [], position.fit_batch

    def fit(*args, **kwargs):
        done.append(1)
        if len(done) == number:
            raise KeyboardInterrupt
        return work(*args, **kwargs)

    patch.setattr(position, "fit_batch", fit)
    patch.setattr(position, "AT_ONCE", 1)


def test_a_fit_that_ctrl_c_ended_is_no_target(data, tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupted(patch, 3)
        made(PositionStage, POSITION, data, tmp_path).run()
    left = sorted(path.name for path in (tmp_path / "targets").rglob("*") if path.is_file())
    assert left == ["00000.npy", "00000.npy"]  # one crop to validate on, one to learn from


def test_targets_are_of_one_configuration_set_of_pictures_and_network(data, tmp_path):
    def fitted(config, source) -> int:
        """Return how many crops a run without a checkpoint fits in a folder."""
        (tmp_path / "run" / "checkpoint.pt").unlink(missing_ok=True)
        count, work = [], position.fit_batch
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                position,
                "fit_batch",
                lambda crops, *a, **k: count.extend(crops) or work(crops, *a, **k),
            )
            made(PositionStage, config, source, tmp_path / "run").run()
        return len(count)

    config = replace(POSITION, rounds=1)
    assert fitted(config, data) == config.crops + config.valid_crops
    assert fitted(config, data) == 0
    other = tmp_path / "other"
    shutil.copytree(data, other)
    files.write_image(other / "train" / "0.png", torch.rand(32, 40, 3))
    for changed in (
        (replace(config, steps=2), data),
        (replace(config, seed=1), data),
        (config, other),
    ):
        assert fitted(*changed) == config.crops + config.valid_crops
    with pytest.MonkeyPatch.context() as patch:  # round 0 learns otherwise
        patch.setattr(position, "cosine", lambda used: 0.5)
        assert fitted(replace(config, rounds=2), data) == 2 * (config.crops + config.valid_crops)
        patch.setattr(position, "cosine", lambda used: 0.25)
        assert fitted(replace(config, rounds=2), data) == config.crops + config.valid_crops


@pytest.mark.skipif(os.environ["TAICHI2DGS_BACKEND"] != "cpu", reason="exact on CPU only")
def test_targets_lost_in_the_middle_of_a_round_are_made_again_as_they_were(data, tmp_path):
    config = replace(POSITION, rounds=1, epochs=2)
    whole, left = snapshots(PositionStage, config, data, tmp_path, [(Folder, "save")])
    shutil.rmtree(left[1] / "targets")  # its network has learnt for an epoch
    assert same(run(PositionStage, config, data, left[1]), whole)


def test_other_pictures_do_not_resume(data, tmp_path):
    made(AttributesStage, replace(ATTRIBUTES, epochs=1), data, tmp_path / "run").run()
    other = tmp_path / "other"
    shutil.copytree(data, other)
    made(AttributesStage, replace(ATTRIBUTES, epochs=1), other, tmp_path / "run").run()  # the same
    (other / "train" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"checkpoint\.pt: made with other pictures; expected"):
        made(AttributesStage, replace(ATTRIBUTES, epochs=1), other, tmp_path / "run").run()


@pytest.mark.parametrize("kind", [PositionStage, AttributesStage])
def test_a_run_begins_with_weights_if_it_is_given_some(kind, data, tmp_path):
    config = POSITION if kind is PositionStage else replace(ATTRIBUTES, epochs=1)
    first, second = tmp_path / "first", tmp_path / "second"
    made(kind, config, data, first).run()
    drawn, begun = (made(kind, config, data, second, begin).net for begin in (None, first))
    there, pairs = weights.load(kind.name, first).state_dict(), []
    for name, value in begun.state_dict().items():
        torch.testing.assert_close(value, there[name], rtol=0, atol=0)
        pairs.append(torch.equal(value, drawn.state_dict()[name]))
    assert not all(pairs)
    path = made(kind, config, data, second, first).run()
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["config"]["begin"] == weights.file(kind.name, first).stem
    with pytest.raises(ValueError, match=r"made with another begin; expected begin='\w+-\w+'"):
        made(kind, config, data, second).run()
    with pytest.raises(ValueError, match=r"a network of Shape\(.*; expected that of the conf"):
        made(kind, replace(config, width=config.width + 1), data, tmp_path / "other", first)


@pytest.mark.parametrize("place", ["", "run"])
def test_a_run_among_its_pictures_does_not_learn_from_what_it_draws(place, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    config, out = replace(ATTRIBUTES, epochs=1), tmp_path / "data" / place
    for _ in range(2):
        again = made(AttributesStage, config, tmp_path / "data", out)
        assert len(again.pictures.train) == 4
        again.run()
    assert list(out.glob("panel-*.png"))


@pytest.mark.skipif(os.environ["TAICHI2DGS_BACKEND"] != "cpu", reason="exact on CPU only")
@pytest.mark.parametrize("kind", [PositionStage, AttributesStage])
def test_pictures_that_break_off_do_not_end_a_run_nor_change_a_resumed_one(kind, data, tmp_path):
    config = POSITION if kind is PositionStage else ATTRIBUTES
    source = tmp_path / "data"
    shutil.copytree(data, source)
    for path in (source / "train" / "1.png", source / "valid" / "0.png"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    whole, left = snapshots(kind, config, source, tmp_path, [(Folder, "save")])
    assert same(run(kind, config, source, left[1]), whole)


def test_each_round_is_compared_with_its_own_beginning(data, tmp_path):
    log, _ = run(PositionStage, POSITION, data, tmp_path)
    for row in log:
        assert (float(row["change"]) == 0) == (row["epoch"] == "0"), row


def test_stage_two_weighs_every_crop_by_the_error_of_its_start(data, tmp_path):
    image, before = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    after = image + (before - image) * torch.tensor([0.5, 2.0])[:, None, None, None]
    dim = torch.tensor([1.0, 0.1])[:, None, None, None]
    for factor in (1, dim):
        found = attributes._relative_error(image * factor, after * factor, before * factor)
        torch.testing.assert_close(found, torch.tensor([0.25, 4.0]), rtol=1e-4, atol=0)
    log, _ = run(AttributesStage, replace(ATTRIBUTES, learning_rate=1e-6), data, tmp_path)
    for row in log:  # an untrained network leaves the start as it is
        assert float(row["valid_loss"]) == pytest.approx(1, abs=0.05)
        assert math.isnan(float(row["loss"])) or float(row["loss"]) == pytest.approx(1, abs=0.05)


def test_no_warm_up_is_one_of_no_steps(data, tmp_path):
    config = replace(ATTRIBUTES, epochs=1)
    none = run(AttributesStage, replace(config, warm_up=0), data, tmp_path / "none")
    assert same(none, run(AttributesStage, replace(config, warm_up=1), data, tmp_path / "one"))


def test_the_average_follows_closely_at_first_and_slowly_later():
    net = torch.nn.Linear(1, 1)
    average = AveragedModel(net, multi_avg_fn=stage.moving_average(0.9), use_buffers=True)
    torch.nn.init.zeros_(net.weight)
    average.update_parameters(net)  # the first is taken as it is
    torch.nn.init.ones_(net.weight)
    average.update_parameters(net)
    assert average.module.weight.item() == pytest.approx(1 - 2 / 11)
    for _ in range(200):
        average.update_parameters(net)
    torch.nn.init.zeros_(net.weight)
    average.update_parameters(net)
    assert average.module.weight.item() == pytest.approx(0.9)


def test_the_average_is_what_validates_and_becomes_the_weights(data, tmp_path):
    config = replace(ATTRIBUTES, average=0.9, epochs=3)
    done = made(AttributesStage, config, data, tmp_path)
    path = done.run()
    kept = weights.load("attributes", path.parent).state_dict()
    for name, value in done.average.module.state_dict().items():
        torch.testing.assert_close(kept[name], value, rtol=1e-3, atol=1e-6)  # half precision
    assert not torch.allclose(kept["unet.head.bias"], done.net.state_dict()["unet.head.bias"])
