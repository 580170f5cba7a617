"""What losses read of a step: images and padding, labels and tags; which networks they move."""

import numpy as np
import pytest
import torch

from spml.config import load_config
from spml.data.dataset import build_training_loader
from spml.data.samples import Sample
from spml.engine.run import build_task, train
from spml.errors import UserError
from spml.tasks.segmentation import StepInputs

CROSS_ENTROPY = ["train.task=segmentation", "losses=none", "losses.cross_entropy.weight=2"]


@pytest.fixture
def image_of_void():
    """40 x 24 pixels, all void but a strip of class 1 and an unlabelled one; narrower than the crop."""
    label = np.full((40, 24), 255, np.uint8)
    label[10:14], label[20:24] = 1, 254
    return Sample(np.full((40, 24, 3), 90, np.uint8), label, name="void")


def test_padding_is_no_void_and_void_is_image(tiny_config_file, tmp_path, image_of_void):
    config = load_config(tiny_config_file, [*CROSS_ENTROPY, "train.max_iteration=1", "train.warmup_iteration=0"])
    config.train.update(batch_size=2, random_scale=False, random_mirror=False)
    config.network.pixel_means, config.network.pixel_stds = [0.2, 0.3, 0.4], [0.5, 0.25, 0.125]
    seen = []

    class Spy(type(build_task(config))):
        def losses(self, batch):
            seen.append(StepInputs(self, batch))
            return super().losses(batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(train.__globals__["TABLE"], "segmentation", Spy)
        train(config, tmp_path, [image_of_void], device="cpu")
    (inputs,) = seen
    assert inputs.inside.shape == (2, 32, 32) and (inputs.inside.sum((1, 2)) == 32 * 24).all()  # the crop is 32 high
    assert (inputs.label[~inputs.inside] == 255).all() and (inputs.label[inputs.inside] == 255).any()
    assert torch.equal(inputs.valid, inputs.label != 255) and (inputs.valid <= inputs.inside).all()
    assert (inputs.rgb.permute(0, 2, 3, 1)[inputs.inside] - 90).abs().max() < 1e-3
    assert (inputs.rgb.permute(0, 2, 3, 1)[~inputs.inside] == 0).all()
    assert inputs.tag.tolist() == [[False, True, False, False]] * 2 and inputs.background == 0


def test_everything_is_computed_once_and_only_when_it_is_read(tiny_config_file):
    config = load_config(tiny_config_file, CROSS_ENTROPY)
    task, batch = build_task(config), next(iter(build_training_loader(config)))
    inputs = StepInputs(task, batch)
    assert inputs.logit is inputs.logit and inputs.embedding is inputs.embedding and "rgb" not in vars(inputs)
    assert inputs.logit.shape == (2, 4, 8, 8) and inputs.embedding.shape == (2, 8, 8, 8)
    config.train.amp = "bf16"
    assert StepInputs(task, batch).logit.dtype == StepInputs(task, batch).embedding.dtype == torch.float32


def test_its_loss_is_the_baseline_of_stage_1(tiny_config_file, tmp_path):
    """Partial cross-entropy: the same steps as the task spml without relations whose classifier moves the network."""
    steps = ["train.max_iteration=2", "train.warmup_iteration=0"]
    older = [f"train.{name}_loss_types=none" for name in ("sem_ann", "sem_occ", "img_sim")]
    one = train(load_config(tiny_config_file, [*steps, *CROSS_ENTROPY]), tmp_path / "one", device="cpu")
    two = train(
        load_config(tiny_config_file, [*steps, *older, "train.cross_entropy_weight=2"]), tmp_path / "two", device="cpu"
    )
    assert one.history == two.history


@pytest.mark.parametrize(
    ("overrides", "moved"),
    [
        (CROSS_ENTROPY, {"embedding_model", "prediction_model"}),
        (["losses=none", "losses.image_similarity.weight=1"], {"embedding_model"}),
        (["losses=none", "losses.cross_entropy.weight=1"], {"embedding_model", "prediction_model"}),
        (["train.classifier_gradient=false"], {"embedding_model", "prediction_model"}),
        (
            ["losses=none", "losses.cross_entropy.weight=1", "train.classifier_gradient=false", "network.pretrained=x"],
            {"prediction_model"},
        ),
    ],
)
def test_networks_that_no_loss_reaches_are_not_trained(tiny_config_file, tmp_path, overrides, moved):
    if overrides[-1] == "network.pretrained=x":
        train(
            load_config(tiny_config_file, ["train.max_iteration=1", "train.warmup_iteration=0"]), tmp_path, device="cpu"
        )
        overrides = [*overrides[:-1], f"network.pretrained={tmp_path}"]
    task = build_task(load_config(tiny_config_file, overrides))
    assert {name for name, part in task.parts.items() if any(p.requires_grad for p in part.parameters())} == moved
    assert {name for name, part in task.parts.items() if any(part is one for one in task.trained)} == moved


def test_a_loss_that_needs_segments_is_refused(tiny_config_file):
    config = load_config(tiny_config_file, [*CROSS_ENTROPY, "losses.image_similarity.weight=1"])
    with pytest.raises(
        UserError, match=r"losses.image_similarity: needs bank, segments, .* got train.task segmentation"
    ):
        build_task(config)
    config.losses.clear()
    with pytest.raises(UserError, match="losses: expected at least one for the task segmentation, got none"):
        build_task(config)


def test_without_a_background_images_that_share_class_0_attract(tiny_config_file):
    """Co-occurrence drops the background's tag; where every class is an object, class 0 counts."""
    losses = {}
    for background in ("0", "none"):
        overrides = ["losses=none", "losses.semantic_cooccurrence.weight=1", f"dataset.background={background}"]
        torch.manual_seed(0)
        config = load_config(tiny_config_file, overrides)
        task = build_task(config)
        batch = next(iter(build_training_loader(config)))
        batch["semantic_tag"] = torch.tensor([[True, True, False, False], [True, False, True, False]])
        losses[background] = task(batch)["semantic_cooccurrence"].item()
        assert task.bank.steps[0][0].semantic_tag.shape[1] == 4
    assert losses["none"] == 0 < losses["0"]  # then no image is another's negative
