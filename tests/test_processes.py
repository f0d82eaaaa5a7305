"""What several processes of one training share, and what each of them sees."""

import math
import os
from types import SimpleNamespace

import pytest
import torch

from pipelines import cli
from pipelines.training.attributes import AttributesConfig, AttributesStage
from pipelines.training.loop import MAX_NORM, Processes, descend
from pipelines.training.position import PositionConfig, PositionStage
from taichi2dgs import runtime

SEEN = "CUDA_VISIBLE_DEVICES"


@pytest.fixture
def started(monkeypatch):
    """Return a function that sets the variables of a launcher for a process of that local rank."""

    def start(local: int, seen: str | None) -> None:
        variables = {"WORLD_SIZE": "4", "RANK": str(local), "LOCAL_RANK": str(local)}
        for name, value in {**variables, SEEN: seen or ""}.items():
            monkeypatch.setenv(name, value)  # pytest undoes it after the test
        if seen is None:
            del os.environ[SEEN]

    return start


@pytest.mark.parametrize(
    ("seen", "local", "left"),
    [(None, 2, "2"), ("4,5,6,7", 1, "5"), (" 3 , 1 ", 0, "3"), ("GPU-89, GPU-01", 1, "GPU-01"),
     ("MIG-0,MIG-1", 0, "MIG-0"), ("6", 3, "6"), ("", 1, ""), ("-1", 1, "-1"),
     ("2,-1,3", 1, "2,-1,3")],
)  # fmt: skip
def test_each_process_sees_the_gpu_of_its_place_in_the_list(started, seen, local, left):
    started(local, seen)
    Processes()
    assert os.environ[SEEN] == left


def test_more_processes_than_listed_gpus_are_refused(started):
    started(2, "0,1")
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES='0,1'; expected a GPU for each"):
        Processes()


def test_more_processes_than_gpus_are_refused_unless_they_are_to_share(started, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    started(1, None)
    with pytest.raises(ValueError, match=r"2 or more processes for 1 GPUs; .*DEVICES=0"):
        Processes()
    started(1, "0")
    Processes()
    assert os.environ[SEEN] == "0"


def test_one_process_alone_keeps_its_list(monkeypatch):
    monkeypatch.setenv(SEEN, "4,5")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    Processes()
    assert os.environ[SEEN] == "4,5"


@pytest.mark.parametrize("stage", ["position", "attributes"])
def test_training_picks_its_gpu_before_a_backend_starts(started, monkeypatch, capsys, stage):
    started(1, "4,7")

    def init(backend):
        raise ValueError(f"{backend} sees {os.environ[SEEN]}")

    monkeypatch.setattr(runtime, "init", init)
    command = ["train", stage, "--data", "none", "--out", "none", "--backend", "cuda"]
    assert cli.main(command) == 2 and "cuda sees 7" in capsys.readouterr().err


def test_what_the_first_process_cannot_make_is_an_error():
    assert Processes().from_first(lambda: 3) == 3
    with pytest.raises(ValueError, match=r"^no images$"):
        Processes().from_first(lambda: (_ for _ in ()).throw(ValueError("no images")))


@pytest.mark.parametrize(
    ("kind", "config", "least"),
    [
        (AttributesStage, AttributesConfig(crops=7, batch=4), 8),
        (PositionStage, PositionConfig(crops=1, batch=4), 2),
    ],
)
def test_too_few_crops_for_the_processes_are_refused_at_once(tmp_path, kind, config, least):
    group = Processes()
    group.world = 2
    message = rf"crops={config.crops}; expected {least} or more, with 2 processes and batch=4"
    with pytest.raises(ValueError, match=message):
        kind(str(tmp_path), None, str(tmp_path), config, group)


@pytest.mark.parametrize(("epoch", "taken"), [(0, [4, 3]), (1, [3, 3]), (2, [3, 3])])
def test_processes_train_on_as_many_crops_each_and_validate_on_all(epoch, taken):
    """With 7 crops and one step more in one of two processes, the other would be waited for."""
    shares = []
    for rank in range(2):
        stage = object.__new__(PositionStage)
        stage.config, stage.round = PositionConfig(), 0
        stage.processes = SimpleNamespace(world=2, rank=rank)
        stage._targets = lambda name, epoch: range(7)
        stage._loader = lambda targets, order: order
        shares.append(stage._batches("train", epoch))
    assert [len(share) for share in shares] == taken
    assert len({*shares[0], *shares[1]}) == sum(taken)  # none is in both


def test_a_process_without_crops_to_validate_counts_nothing():
    assert Processes().mean([[1.0, 4.0], [3.0, 0.0]], 2) == [2, 2]
    assert all(math.isnan(mean) for mean in Processes().mean([], 2))


def test_a_step_is_bounded_whatever_the_gradient():
    net = torch.nn.Linear(3, 1, bias=False)
    before = net.weight.detach().clone()
    descend(1e6 * net(torch.ones(1, 3)).sum(), net, torch.optim.SGD(net.parameters(), lr=0.1))
    assert float((net.weight.detach() - before).norm()) == pytest.approx(0.1 * MAX_NORM, rel=1e-3)
