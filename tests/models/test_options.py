"""The [model] table refuses what cannot be meant, and says what can."""

import pydantic
import pytest

from models import METHODS, ModelOptions
from models.options import METHOD_NAMES


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"method": "byol"}, r"unknown method 'byol'; allowed: gdt, simclr, moco"),
        ({"video": "r3d"}, r"unknown video encoder 'r3d'; allowed: r2plus1d_18, r2plus1d_small"),
        ({"audio": "vggish"}, r"unknown audio encoder 'vggish'; allowed: resnet9, resnet9_small"),
        ({"image": "vit"}, r"unknown image encoder 'vit'; allowed: resnet18, resnet_small"),
        ({"embedding_dim": 0}, r"model.embedding_dim is a count, at least 1; got 0"),
        ({"queue_size": 0}, r"model.queue_size is a count, at least 1; got 0"),
        ({"batch_norm_groups": 0}, r"model.batch_norm_groups is a count, at least 1; got 0"),
        ({"temperature": 0.0}, r"model.temperature .* above 0 .*; got 0.0"),
        ({"temperature": float("nan")}, r"model.temperature .* got nan"),
        ({"dropout": 1.0}, r"model.dropout is a probability in \[0, 1\); got 1.0"),
        ({"momentum": 1.0}, r"model.momentum is in \[0, 1\).*; got 1.0"),
    ],
)
def test_refusals_name_the_key_and_what_is_allowed(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelOptions(**keys)  # type: ignore[arg-type]


def test_defaults_are_the_papers() -> None:
    options = ModelOptions()
    assert (options.embedding_dim, options.temperature) == (256, 0.07)
    assert (options.momentum, options.queue_size) == (0.999, 65536)


def test_pydantic_forbids_unknown_and_ill_typed_keys() -> None:
    adapter = pydantic.TypeAdapter(ModelOptions)
    assert adapter.validate_json('{"method": "moco"}') == ModelOptions(method="moco")
    with pytest.raises(pydantic.ValidationError, match="Unexpected keyword argument"):
        adapter.validate_json('{"temprature": 0.1}')
    with pytest.raises(pydantic.ValidationError, match="valid integer"):
        adapter.validate_json('{"embedding_dim": "256"}')


def test_every_method_has_a_name() -> None:
    assert tuple(METHODS) == METHOD_NAMES
