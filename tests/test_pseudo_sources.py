"""What needs no snapshot: recipes, DensePose's points, the division by a class's maximum."""

import numpy as np
import torch

from spml.config import load_config
from spml.data.dataset import EvaluationSample
from spml.inference.whole_views import WholeViews
from spml.models import build_embedding_model
from spml.pseudo import SOURCES
from spml.pseudo.base import NEEDS, Recipe, by_class_maximum
from spml.pseudo.label import choose_recipe, pseudo_probability
from spml.pseudo.points import PointLabeller


def test_points_of_densepose(tiny_config):
    own = load_config(None, ["network.backbone_types=panoptic_deeplab_tiny", "network.embedding_dim=8"])
    own.dataset.dataset, own.dataset.num_classes = "Densepose", 15
    views = WholeViews(
        build_embedding_model(own).eval(), choose_recipe("points").plan(tiny_config), torch.device("cpu")
    )
    label = torch.full((40, 48), 15)  # unlabelled as the release marks it
    label[4:9, 4:9], label[25:30, 20:25], label[:2] = 0, 14, 255
    read = EvaluationSample("x", torch.randn(3, 40, 48), np.zeros(0), label, torch.arange(48).expand(40, 48) // 16)
    score = pseudo_probability(PointLabeller(views.plan, views, (4, 4), 10, 15), read, 64)
    assert score.shape == (15, 40, 48) and (score[1:14] == 0).all()
    assert score[0, 6, 6] > score[14, 6, 6] and score[14, 27, 22] > score[0, 27, 22]


def test_each_class_is_divided_by_its_maximum():
    score = torch.tensor([[[0.2, 0.4]], [[0.8, 0.6]], [[0.0, 0.0]]])
    got = by_class_maximum(score, torch.tensor([True, False, True]))
    torch.testing.assert_close(got, torch.tensor([[[0.5, 1.0]], [[0.0, 0.0]], [[0.0, 0.0]]]))


def test_choices_go_before_the_released_ones():
    assert choose_recipe("retrieval") == SOURCES["retrieval"].recipe
    softmax = choose_recipe("softmax", walk_steps=0)
    assert (softmax.scales, softmax.flip, softmax.crf) == ((0.75, 1.0), True, False)
    assert choose_recipe("softmax", scales=[1], flip=False, walk_steps=0, crf=True) == Recipe((1.0,), False, 0, True)
    assert choose_recipe("points", flip=True) == Recipe((1.0,), True, 64, True)


def test_every_source_says_what_it_is():
    for name, source in SOURCES.items():
        assert source.help and "\n" not in source.help, name
        assert set(source.needs) <= set(NEEDS) and isinstance(source.recipe, Recipe), name
