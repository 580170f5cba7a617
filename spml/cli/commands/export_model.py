"""Write a trained model as one file for use elsewhere: ONNX, or safetensors. docs/deploy.md shows both at work."""

import argparse

from spml.cli.options import add
from spml.cli.parser import Parser
from spml.data.lists import read_list
from spml.inference.loading import load

CHECKED = 4  # images of the list


def add_arguments(parser: Parser) -> None:
    parser.add_argument("snapshot", help="model-<i>.pth, or its folder: the newest")
    parser.add_argument("out", help="file to write: .onnx or .safetensors")
    add(parser, "config", required=False, help="YAML file; left out: config.yaml beside the snapshot")
    add(parser, "data_list", help="images on which an ONNX graph must give what PyTorch gives; left out: built-in ones")
    add(parser, "data_dir")


def main(args: argparse.Namespace) -> None:
    model = load(args.snapshot, args.config, "cpu")
    samples = read_list(args.data_list, args.data_dir or model.config.dataset.data_dir) if args.data_list else []
    print(model.export(args.out, [sample.image for sample in samples[:CHECKED]]))
