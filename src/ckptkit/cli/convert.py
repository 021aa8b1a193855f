"""``ckptkit convert``: the same tensors in another format."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .remap import add_write_arguments

ABOUT = """\
Write the tensors of a checkpoint in the format that DST's suffix names: .safetensors, .pt .pth .bin
.ckpt (torch), .json (signature only), or a folder of safetensors shards. Tensors are copied as
bytes, one at a time. DST appears complete or not at all; SRC is never changed."""
EXAMPLES = (
    "convert pytorch_model.bin model.safetensors",
    "convert run.pt weights.safetensors --root state_dict_ema",
    "convert big.safetensors model-folder/ --max-shard-size 5GB",
)


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", metavar="SRC", help="a file, a sharded folder, or an index")
    parser.add_argument(
        "target", metavar="DST", help="its suffix names the format; a folder without one is sharded"
    )
    add_write_arguments(parser)
    parser.set_defaults(dry_run=False, in_place=False)


def run(arguments: Namespace) -> int:
    """Carry the command out."""
    from ..config import RemapConfig
    from .write import carry_out

    return carry_out(arguments, RemapConfig(root=arguments.root or "auto"))
