"""The command `train`, which has two stages."""

from __future__ import annotations

import argparse
from typing import Any

from pipelines.commands import options as common


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the stages, each with its options."""
    stages = parser.add_subparsers(required=True, metavar="STAGE")
    position = stages.add_parser("position", help="Stage I: where Gaussians go")
    position.set_defaults(run=_train_position)
    attributes = stages.add_parser("attributes", help="Stage II: what they look like")
    attributes.set_defaults(run=_train_attributes)
    attributes.add_argument(
        "--position", metavar="RUN", help="folder of Stage I (the shipped weights)"
    )
    for stage, name in ((position, "position"), (attributes, "attributes")):
        stage.add_argument("--data", required=True, metavar="DIR", help="images to train on")
        stage.add_argument("--valid", metavar="DIR", help="to validate on (part of --data)")
        stage.add_argument("--config", default=name, metavar="YAML", help=f"({name})")
        stage.add_argument(
            "--begin", metavar="RUN", help="folder of weights to begin with, or shipped (none)"
        )
        stage.add_argument("--out", required=True, metavar="RUN", help="folder; a run resumes")
        common.add_quiet(stage)
        common.add_backend(stage)


def _train_position(options: argparse.Namespace) -> int:
    from pipelines.training.position import PositionConfig, PositionStage

    return _train(options, PositionStage, PositionConfig)


def _train_attributes(options: argparse.Namespace) -> int:
    from nets.weights import SHIPPED
    from pipelines.training.attributes import AttributesConfig, AttributesStage

    return _train(options, AttributesStage, AttributesConfig, position=options.position or SHIPPED)


def _train(options: argparse.Namespace, stage: type, config_class: type, **more: Any) -> int:
    from nets import weights
    from pipelines import configuration
    from pipelines.training.loop import Processes
    from taichi2dgs import runtime

    begin = options.begin and weights.folder_of(options.begin)
    config = configuration.stage(options.config, stage.name, config_class)
    group = Processes()  # picks the GPU that this process sees, so before a backend starts
    runtime.init(options.backend)
    with group as processes:
        named = {"quiet": options.quiet, "begin": begin, **more}
        made = stage(options.data, options.valid, options.out, config, processes, **named).run()
    if made is not None:  # the first process of several
        print(f"{made}: {made.stat().st_size / 1e6:.1f} MB, card in {made.stem}.json")
    return 0
