from pathlib import Path

import pytest

from gdt import Plan, named_plan
from tools.runs.config import Config, ConfigError, differing_keys, load_config

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.toml"))

SMALL = """
seed = 7
[data]
shards = "shards/train"
batch_size = 4
[plan.sample]
relation = "distinctive"
[plan.modality]
relation = "invariant"
values = ["video", "audio"]
pairs = "cross"
[method]
name = "gdt"

[encoders]
video = "r2plus1d_small"
[optimizer]
learning_rate = 0.1
[trainer]
epochs = 2
"""


def write(folder: Path, text: str = SMALL) -> Path:
    path = folder / "small.toml"
    path.write_text(text)
    return path


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_there_are_configs() -> None:
    assert {path.stem for path in CONFIGS} >= {"gdt", "cross_modal", "demo", "synthetic"}


def test_a_published_plan_by_its_name(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path), ["plan.name=i_shift", "plan.time_shift.min_seconds_apart=0.5"]
    )
    plan = config.build_plan()
    assert plan.names == ("sample", "time_shift", "modality")
    assert (plan.draws("time_shift"), plan.min_seconds_apart) == (2, 0.5)
    (tmp_path / "again.toml").write_text(config.to_toml())
    assert load_config(tmp_path / "again.toml").build_plan() == plan


def test_channels_are_as_many_as_the_encoder_takes() -> None:
    (path,) = (path for path in CONFIGS if path.stem == "deepcluster")
    message = refusal(path, "encoders.image_channels=3")
    assert 'channels = "sobel" are 2, and the image encoder takes 3: set other' in message
    message = refusal(path, 'image_augment.channels="rgb"')
    assert 'channels = "rgb" are 3, and the image encoder takes 2' in message
    message = refusal(path, 'image_augment.channels="hsv"')
    assert "channels = 'hsv', must be one of rgb, lab, sobel" in message


def test_methods_of_lab_colours_refuse_others() -> None:
    (path,) = (path for path in CONFIGS if path.stem == "colorization")
    message = refusal(path, 'video_augment.channels="rgb"')
    assert '[video_augment]: channels = "rgb", and colorization copies the colours' in message
    assert 'set channels = "lab"' in message


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_loads_and_survives_being_written(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    written = tmp_path / "config.toml"
    written.write_text(config.to_toml())
    assert load_config(written) == config
    assert config.build_plan() == load_config(written).build_plan()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_begins_with_command_time_and_result(path: Path) -> None:
    head = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        head.append(line)
    text = "\n".join(head)
    command = "finetune" if path.stem.startswith("finetune") else "pretrain"
    assert f"gdt {command} {path.stem}" in text
    assert "time" in text.lower()
    assert "expect" in text.lower()


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    config = load_config(write(tmp_path))
    assert config.seed == 7
    assert config.optimizer.momentum == 0.9
    assert config.segment.num_frames == 30
    assert "momentum = 0.9" in config.to_toml()


def test_set_overrides_a_key_with_a_toml_value_or_a_bare_word(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path),
        ["trainer.epochs=9", "data.shards=other/folder", "optimizer.name = 'adamw'", "seed=1"],
    )
    assert config.trainer.epochs == 9
    assert config.data.shards == "other/folder"
    assert config.optimizer.name == "adamw"
    assert config.seed == 1


def test_set_opens_tables_that_the_file_lacks(tmp_path: Path) -> None:
    config = load_config(write(tmp_path), ['plan.time_shift={relation="distinctive",draws=2}'])
    assert config.build_plan().draws("time_shift") == 2


def test_an_unknown_key_names_file_key_and_what_is_allowed(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL + "epoch = 3\n")
    text = refusal(path)
    assert text.startswith(f"{path}: unknown key trainer.epoch (did you mean epochs?)")
    assert "[trainer] takes epochs, " in text


def test_an_unknown_table_lists_the_tables(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, SMALL + "[trainr]\n"))
    assert "unknown key trainr (did you mean trainer?); the top level takes seed, data" in text


def test_an_unknown_key_of_the_command_line_is_named_as_such(tmp_path: Path) -> None:
    text = refusal(write(tmp_path), "method.tempera=1")
    assert "--set method.tempera=1: unknown key method.tempera (did you mean temperature?)" in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.epochs=ten", 'trainer.epochs = "ten", must be a valid integer'),
        ("trainer.epochs=1.5", "trainer.epochs = 1.5, must be a valid integer"),
        ("trainer.devices=many", 'trainer.devices = "many", must be'),
        (
            "optimizer.learning_rate='0.1'",
            'optimizer.learning_rate = "0.1", must be a valid number',
        ),
        ("optimizer.scale_by_ranks=1", "optimizer.scale_by_ranks = 1, must be a valid boolean"),
        ("trainer.precision=bf16", "trainer.precision = \"bf16\", must be '32-true', 'bf16-mixed'"),
        ("trainer=3", "trainer = 3, must be"),
        ("seed=-1", "seed = -1, must be greater than or equal to 0"),
    ],
)
def test_an_ill_typed_key_says_what_was_got_and_is_allowed(
    tmp_path: Path, override: str, message: str
) -> None:
    text = refusal(write(tmp_path), override)
    assert message in text
    assert f"--set {override}" in text
    assert len(text.splitlines()) <= 2


def test_a_refused_value_keeps_the_message_of_its_room(tmp_path: Path) -> None:
    text = refusal(write(tmp_path), "optimizer.learning_rate=0.0")
    assert "[optimizer]: learning_rate = 0.0, must be more than 0" in text
    text = refusal(write(tmp_path), "plan.modality.relation=same")
    assert text.count("[plan") == 1  # the table is named once
    assert "relation = 'same', allowed are invariant, distinctive" in text


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, SMALL.replace("epochs = 2", "")))
    assert "key trainer.epochs is missing" in text


def test_several_problems_come_at_once(tmp_path: Path) -> None:
    text = refusal(write(tmp_path), "trainer.epochs=ten", "seed=-1")
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize("override", ["epochs", "=3", "a..b=3", "seed.x=3"])
def test_a_malformed_override_is_refused(tmp_path: Path, override: str) -> None:
    assert refusal(write(tmp_path), override).startswith(f"--set {override}: ")


def test_no_file_and_no_toml(tmp_path: Path) -> None:
    assert "cannot read this config: No such file" in refusal(tmp_path / "none.toml")
    assert "cannot read this config: is no regular file" in refusal(tmp_path)
    assert "not a TOML file" in refusal(write(tmp_path, "seed == 1"))
    for nested in ("seed = " + "[" * 100_000, ".".join(["a"] * 5000) + " = 1"):
        text = refusal(write(tmp_path, nested))
        assert "not a TOML file: nested too deep" in text
        assert len(text) < 1000
    assert "unknown key" in refusal(write(tmp_path), ".".join(["a"] * 5000) + "=1")
    assert "seed" in refusal(write(tmp_path), "seed=" + "[" * 100_000)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not a TOML file" in refusal(binary)


def test_table_files_are_found_beside_the_config_and_kept_absolute(tmp_path: Path) -> None:
    (tmp_path / "weight.csv").write_text("0,1\n1,0\n")
    text = SMALL + '[plan.tables]\nweight_file = "weight.csv"\n'
    config = load_config(write(tmp_path, text))
    assert config.plan["tables"]["weight_file"] == str(tmp_path / "weight.csv")
    assert config.build_plan().weight_of_grid is not None


def test_differing_keys_names_each_with_both_values(tmp_path: Path) -> None:
    ours = load_config(write(tmp_path), ["trainer.epochs=3", "trainer.max_steps=5"])
    theirs: Config = load_config(write(tmp_path))
    assert differing_keys(ours, ours) == []
    assert differing_keys(ours, theirs) == [
        "trainer.epochs: 3, was 2",
        "trainer.max_steps: 5, was 'not set'",
    ]


def test_a_config_cannot_be_changed(tmp_path: Path) -> None:
    config = load_config(write(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3


MIX = """
[data.mix.talks]
shards = "shards/talks"
weight = 2
[data.mix.films]
shards = "shards/films"
"""


def test_data_sets_are_mixed_by_tables_of_their_names(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL.replace('shards = "shards/train"', "") + MIX)
    config = load_config(path, ["data.mix.films.weight=0.5", "data.mix.news={shards='n'}"])
    assert {name: (part.shards, part.weight) for name, part in config.data.mix.items()} == {
        "talks": ("shards/talks", 2.0),
        "films": ("shards/films", 0.5),
        "news": ("n", 1.0),
    }
    written = tmp_path / "config.toml"
    written.write_text(config.to_toml())
    assert load_config(written) == config
    mixed = load_config(write(tmp_path, SMALL + MIX), ["data.shards=''"])
    assert set(mixed.data.mix) == {"talks", "films"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.mix.talks.wieght=3", "unknown key data.mix.talks.wieght (did you mean weight?)"),
        ("data.mix.talks.weight=x", 'data.mix.talks.weight = "x", must be a valid number'),
        ("data.mix.talks.weight=0", "[data.mix.talks]: weight = 0.0, must be a number greater"),
        ("data.mix.talks.weight=-2", "[data.mix.talks]: weight = -2.0, must be a number greater"),
        ("data.mix.talks.weight=nan", "[data.mix.talks]: weight = nan, must be a number greater"),
        ("data.mix.talks.weight=1e-6", "weight = 1e-06 of talks is 1e-06 of all weights"),
        ("data.mix.talks.shards=''", '[data.mix.talks]: shards = "", must be the folder of a'),
        ("data.mix.more.weight=2", "key data.mix.more.shards is missing"),
        ("data.shards=one", "both are given"),
        ("data.mix={}", "neither is given"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path, SMALL.replace('shards = "shards/train"', "") + MIX)
    assert message in refusal(path, override)


def test_a_key_of_another_method_is_refused_with_its_owner(tmp_path: Path) -> None:
    text = refusal(write(tmp_path), "method.queue_size=8")
    assert "unknown key method.queue_size (it belongs to moco, swav" in text
    assert "and name is gdt); [method] takes name, hidden_dim" in text


def test_an_unknown_method_lists_the_methods(tmp_path: Path) -> None:
    text = refusal(write(tmp_path), "method.name=mocov9")
    assert "[method]: name must be one of gdt, simclr, moco, byol, swav" in text
    assert text.endswith('got "mocov9"')
    assert "it is missing" in refusal(write(tmp_path, SMALL.replace('name = "gdt"', "")))


@pytest.mark.parametrize(
    ("override", "new"),
    [
        ("model.temperature=1.0", "model is now [method] (name = "),
        ("image_augment.blur=0.5", "image_augment.blur is now image_augment.blur_probability"),
    ],
)
def test_a_key_of_an_earlier_version_names_the_new_one(
    tmp_path: Path, override: str, new: str
) -> None:
    text = refusal(write(tmp_path), override)
    assert "was written for an earlier version: " in text
    assert new in text
    assert len(text.splitlines()) == 1


def test_the_plan_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []
    parse = Plan.from_tables

    def counted(*arguments: object) -> Plan:
        parsed.append(arguments)
        return parse(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Plan, "from_tables", counted)
    config = load_config(write(tmp_path))
    assert config.build_plan() is config.build_plan()
    assert len(parsed) == 1


def test_a_plan_may_be_a_name(tmp_path: Path) -> None:
    config = load_config(write(tmp_path), ["plan=v_shift"])
    assert config.build_plan() == named_plan("v_shift")
    written = tmp_path / "config.toml"
    written.write_text(config.to_toml())
    assert load_config(written) == config
    three = load_config(write(tmp_path), ["plan=v_shift", "plan.time_shift.draws=3"])
    assert three.build_plan().draws("time_shift") == 3
