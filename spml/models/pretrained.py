"""Weights to start from, `network.pretrained`: a file, a package of the package index, or timm's own download."""

from pathlib import Path

from torch import Tensor, nn

from spml.errors import UserError
from spml.models.backbones.base import Encoder, Options
from spml.models.backbones.timm import PREFIX, TimmEncoder
from spml.models.checkpoint import find_snapshot, load_parts, read_weights
from spml.models.packages import PACKAGES, Package
from spml.models.registry import find_backbone, unknown
from spml.models.timm_weights import check_keys, downloaded, file_state, fill

PACKAGE, TIMM = "package:", "timm"


def load_pretrained(source: str, model: nn.Module, part: str = "embedding_model") -> str:
    """Copy the weights that `network.pretrained` names into a model. It copies nothing unless everything fits.

    Args:
        source: a snapshot or a folder of them (its newest); an ImageNet file as in `load_parts`; for a backbone of
            timm, a file of its weights (.safetensors, .pth, .bin); `package:<name of PACKAGES>`; or `timm`. Empty:
            nothing happens.
        model: an Encoder, or a model that holds one.
        part: the name of the model in a snapshot.

    Returns:
        One line saying what was loaded; empty for an empty source.

    Raises:
        CheckpointError: a file that cannot be read or weights that do not fit; it names keys and shapes.
        UserError: a package that is unknown, not installed or for another backbone, or no connection to the web.
    """
    if not source:
        return ""
    encoder = next(module for module in model.modules() if isinstance(module, Encoder))
    if source == TIMM or source.startswith(PACKAGE):
        if not isinstance(encoder, TimmEncoder):
            raise UserError(f"network.pretrained: {source} is for network.backbone_types {PREFIX}<name>")
        state = downloaded(encoder.name) if source == TIMM else installed(source, encoder.name)
    else:
        path = find_snapshot(source, "network.pretrained")
        content = read_weights(path)
        if "embedding_model" in content or not isinstance(encoder, TimmEncoder):
            return load_parts(path, {part: model})
        state = file_state(path, encoder.name, content)
    return f"{source}: {fill(encoder, state, source)} entries of the backbone; the rest keeps its initial weights"


def weights_file(source: str) -> Path | None:
    """The file that `network.pretrained` names; None if it is empty, or `timm`, whose name alone tells the weights.

    Raises:
        UserError: no such file, an unknown package, or one that is not installed.
    """
    if source in ("", TIMM):
        return None
    if source.startswith(PACKAGE):
        return find_package(source).read()[0]
    return find_snapshot(source, "network.pretrained")


def pretrained_encoder(source: str, output_stride: int | None = None, levels: tuple[int, ...] = ()) -> Encoder:
    """Build the backbone of a package with the package's weights: frozen, in eval mode, on the CPU.

    Args:
        source: `package:<name of PACKAGES>`.
        output_stride, levels: as `network.output_stride` and `network.levels`.

    Raises:
        UserError: as `load_pretrained`.
    """
    encoder = find_backbone(find_package(source).backbone).build(Options(output_stride, levels))
    load_pretrained(source, encoder)
    encoder.freeze(everything=True)
    return encoder.eval()


def normalisation(backbone: str, pretrained: str = "") -> tuple[list[float], list[float]]:
    """Mean and deviation of RGB in [0, 1] that a backbone's weights expect: network.pixel_means and .pixel_stds.

    Args:
        backbone: `network.backbone_types`.
        pretrained: `network.pretrained`; for a package, the values come from its backbone.

    Raises:
        UserError: an unknown name.
    """
    entry = find_backbone(find_package(pretrained).backbone if pretrained.startswith(PACKAGE) else backbone)
    return list(entry.mean), list(entry.std)


def installed(source: str, name: str) -> dict[str, Tensor]:
    """The entries of a package's file under timm's keys, for timm's backbone `name`.

    Raises:
        UserError: an unknown package, one that is not installed, or one for another backbone.
        CheckpointError: the file's keys differ from the network's; it names them.
    """
    package = find_package(source)
    fits = package.backbone.removeprefix(PREFIX)
    if name.split(".")[0] != fits:
        raise UserError(
            f"network.pretrained: {source} fits network.backbone_types {package.backbone}, got {PREFIX}{name}"
        )
    path, found = package.read()
    check_keys(path, fits, found)
    return found


def find_package(source: str) -> Package:
    """The package of `package:<name>`.

    Raises:
        UserError: an unknown name.
    """
    name = source.removeprefix(PACKAGE)
    if name not in PACKAGES:
        raise unknown("network.pretrained", source, [PACKAGE + known for known in PACKAGES])
    return PACKAGES[name]
