"""What every method keeps to: options that refuse what cannot be meant, needs, state."""

import copy
import typing
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
import torch

from gdt import Batch, named_plan
from models import METHODS, EncoderOptions
from models.method import Method, Needs
from models.methods.gdt import GDTOptions
from models.methods.moco import MoCoOptions
from tests.models.conftest import ONE_VIEW, PATCHED, SHAPES_OF, dataset_of, plan_for


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"embedding_dim": 0}, r"method.embedding_dim = 0, must be a count, at least 1"),
        ({"queue_size": 0}, r"method.queue_size = 0, must be a count"),
        ({"batch_norm_groups": 0}, r"method.batch_norm_groups = 0, must be a count"),
        ({"temperature": 0.0}, r"method.temperature = 0.0, must be above 0"),
        ({"temperature": float("nan")}, r"method.temperature = nan, must be above 0"),
        ({"dropout": 1.0}, r"method.dropout = 1.0, must be at least 0 and less than 1"),
        ({"momentum": 1.0}, r"method.momentum = 1.0, must be at least 0 and less than 1"),
    ],
)
def test_refusals_name_the_key_and_what_is_allowed(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoCoOptions(**keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"video": "r3d"}, r"unknown video encoder 'r3d'; allowed: .*mc3_18, r2plus1d_18"),
        ({"audio": "vggish"}, r"unknown audio encoder 'vggish'; allowed: resnet18, resnet9"),
        ({"image": "vit"}, r"unknown image encoder 'vit'; allowed: .*resnet18, resnet50"),
        ({"patch_size": 0}, r"patch_size = 0, must be at least 1"),
    ],
)
def test_encoders_are_named_in_the_tables(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderOptions(**keys)


def test_an_option_of_another_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"patch_size is set, and the image encoder 'resnet18' "):
        EncoderOptions(patch_size=8).build("image")
    frozen = EncoderOptions(image="vit_mini", freeze_patch_projection=True).build("image")
    assert [n for n, p in frozen.named_parameters() if not p.requires_grad] == [
        "trunk.patch_projection.weight",
        "trunk.patch_projection.bias",
    ]


def test_a_vit_names_the_size_that_its_patches_do_not_divide() -> None:
    encoder = EncoderOptions(image="vit_mini").build("image")
    with pytest.raises(ValueError, match=r"patches of 8×8 takes .* got 36×32: set image_augment"):
        encoder(torch.zeros(1, 3, 36, 32))


def test_defaults_are_the_papers() -> None:
    assert (GDTOptions().embedding_dim, GDTOptions().temperature) == (256, 0.07)
    assert (MoCoOptions().momentum, MoCoOptions().queue_size) == (0.999, 65536)


@pytest.mark.parametrize("name", list(METHODS))
def test_each_method_is_told_apart_by_its_name(name: str) -> None:
    options_type = METHODS[name].options_type
    assert typing.get_args(typing.get_type_hints(options_type)["name"]) == (name,)
    kinds = typing.get_type_hints(options_type)
    a_number = next(key for key, kind in kinds.items() if kind in (int, float))
    adapter = pydantic.TypeAdapter(options_type)
    assert adapter.validate_json("{}").name == name
    with pytest.raises(pydantic.ValidationError, match="Unexpected keyword argument"):
        adapter.validate_json('{"temprature": 0.1}')
    with pytest.raises(pydantic.ValidationError, match=r"valid (integer|number)"):
        adapter.validate_json(f'{{"{a_number}": "256"}}')


@pytest.mark.parametrize("name", list(METHODS))
def test_features_beyond_the_encoder_are_said_to_be(
    name: str, build_small: Callable[..., Any]
) -> None:
    has_own = METHODS[name].features is not Method.features
    method = build_small(name, plan_for(name))
    if name in ("simclr", "simcse"):  # by an option
        assert has_own
        assert not method.beyond_encoder
        option: dict[str, Any] = {"feature_layers": 1} if name == "simclr" else {"pooler": "avg"}
        method = build_small(name, plan_for(name), **option)
    assert bool(method.beyond_encoder) == has_own


@pytest.mark.parametrize("name", list(METHODS))
def test_a_resumed_method_goes_on_bit_for_bit(
    name: str, make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    plan = plan_for(name)
    method = build_small(name, plan)
    patched, shapes = PATCHED.get(name, ()), SHAPES_OF.get(name)
    batches = [
        make_batch(plan, range(4 * step, 4 * step + 4), patched, shapes) for step in range(4)
    ]

    is_video = plan.modalities == ("video",)
    pictures = torch.randn(64, 3, *((2,) if is_video else ()), 16, 16)
    sounds = torch.randn(64, 1, 40, 33) if "audio" in plan.modalities else None
    dataset = dataset_of(pictures, sounds=sounds)

    def train(trained: Any, first: int, stop: int) -> list[torch.Tensor]:
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        totals = []
        for step in range(first, stop):
            torch.manual_seed(step)
            if step % 3 == 0:  # an epoch of three steps
                trained.before_epoch(step // 3, dataset)
            optimizer.zero_grad()
            losses = trained(batches[step])
            losses.total.backward()
            trained.after_backward(step)
            optimizer.step()
            trained.after_step(step)
            totals.append(losses.total.detach())
        return totals

    train(method, 0, 2)
    state = copy.deepcopy(method.state_dict())
    expected = train(method, 2, 4)
    torch.manual_seed(99)
    resumed = build_small(name, plan)
    resumed.load_state_dict(state)
    assert all(map(torch.equal, train(resumed, 2, 4), expected))
    for key, value in method.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (Needs(2, 2, why="W"), r"W: .*draws = 2; got 1 draw$"),
        (Needs(2, why="W"), r"draws = 2 or more; got 1 draw$"),
        (Needs(2, 3, why="W"), r"draws = 2 to 3; got 1 draw$"),
    ],
)
def test_needs_say_what_the_plan_must_have(needs: Needs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        needs.check(named_plan("cross_modal_baseline"))
    needs.check(named_plan("simclr"))


def test_one_transformation_of_a_sample_is_for_methods_that_need_no_positive() -> None:
    with pytest.raises(
        ValueError, match=r"a sample needs two .* set \[plan.augmentation\] relation"
    ):
        Needs().check(ONE_VIEW)
    Needs(positives=False).check(ONE_VIEW)


def test_one_modality_is_asked_for_by_name() -> None:
    with pytest.raises(ValueError, match=r"W: .*must name one modality; got video, audio"):
        Needs(one_modality=True, why="W").check(named_plan("cross_modal_baseline"))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("moco", "queue_size"),
        ("pcl", "queue_size"),
        ("infomin", "queue_size"),
        ("detco", "queue_size"),
        ("swav", "num_prototypes"),
        ("swav", "queue_size"),
        ("pcl", "num_prototypes"),
        ("deepcluster_v2", "num_prototypes"),
        ("deepcluster", "num_clusters"),
        ("sela", "num_clusters"),
        ("instdisc", "num_negatives"),
        ("cmc", "num_negatives"),
        ("pirl", "num_negatives"),
    ],
)
def test_counts_that_do_not_fit_the_data_set_are_refused(
    name: str, key: str, build_small: Callable[..., Any]
) -> None:
    several = isinstance(getattr(METHODS[name].options_type(name), key), tuple)
    message = rf"method.{key} = 33 for 32 samples: lower it, or train on more samples"
    with pytest.raises(ValueError, match=message):
        build_small(name, plan_for(name), num_samples=32, **{key: (33, 6) if several else 33})
    build_small(name, plan_for(name), num_samples=34, **{key: (33, 6) if several else 33})
