"""Small folders in the layouts of DAVIS, VIP and JHMDB, and what is refused of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tools.evaluation.errors import EvaluationError
from tools.propagation.clips import read_clips
from tools.sample_data.moving_shapes import palette


def picture(path: Path, height: int = 12, width: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(path)


def mask(path: Path, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers.astype(np.uint8)).convert("P")
    image.putpalette(palette())
    image.save(path)


def davis(root: Path, names: tuple[str, ...] = ("cat", "dog"), frames: int = 4) -> Path:
    for name in names:
        for number in range(frames):
            picture(root / "JPEGImages" / "480p" / name / f"{number:05d}.jpg")
            numbers = np.zeros((12, 16), np.uint8)
            numbers[2:6, number : number + 4] = 1
            numbers[0, 0] = 255
            mask(root / "Annotations" / "480p" / name / f"{number:05d}.png", numbers)
    return root


def test_daviss_layout_with_and_without_a_list(tmp_path: Path) -> None:
    root = davis(tmp_path)
    both = read_clips(root, "davis", "val")
    assert [clip.name for clip in both] == ["cat", "dog"]
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("dog\n")
    (clip,) = read_clips(root, "davis", "val")
    assert clip.name == "dog"
    assert clip.is_whole
    assert clip.frame(0).shape == (12, 16, 3)
    assert clip.mask(2).sum() == 16  # void is background
    with pytest.raises(EvaluationError, match=r"2017/train.txt: no such list of clips"):
        read_clips(root, "davis", "train")


def test_one_mask_is_enough_to_draw(tmp_path: Path) -> None:
    root = davis(tmp_path, ("cat",))
    for path in sorted((root / "Annotations" / "480p" / "cat").iterdir())[1:]:
        path.unlink()
    (clip,) = read_clips(root, "davis", "val")
    assert list(clip.masks) == [0]
    assert not clip.is_whole


def test_vips_layout(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "Images" / "videos7" / f"{number:012d}.jpg")
        parts = np.full((12, 16), 19)
        mask(tmp_path / "Annotations" / "Category_ids" / "videos7" / f"{number:012d}.png", parts)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "val_videos.txt").write_text("videos7\n")
    (clip,) = read_clips(tmp_path, "vip", "val")
    assert clip.mask(1).max() == 19


def jhmdb(root: Path, places: np.ndarray) -> Path:
    for name in ("run_a", "run_b"):
        for number in range(1, places.shape[2] + 1):
            picture(root / "Rename_Images" / "run" / name / f"{number:05d}.png")
        folder = root / "joint_positions" / "run" / name
        folder.mkdir(parents=True)
        savemat(folder / "joint_positions.mat", {"pos_img": places})
    (root / "splits").mkdir()
    (root / "splits" / "run_test_split1.txt").write_text("run_a.avi 1\nrun_b.avi 2\n")
    return root


def test_jhmdbs_layout(tmp_path: Path) -> None:
    places = np.random.default_rng(0).uniform(1, 10, (2, 15, 3))
    (clip,) = read_clips(jhmdb(tmp_path, places), "jhmdb", "val")
    assert clip.name == "run_b"
    assert clip.joints is not None
    np.testing.assert_array_equal(clip.joints[1, 4], places[:, 4, 1])
    (train,) = read_clips(tmp_path, "jhmdb", "train")
    assert train.name == "run_a"


def test_joints_of_another_shape_are_refused(tmp_path: Path) -> None:
    root = jhmdb(tmp_path, np.ones((2, 15, 3)))
    path = root / "joint_positions" / "run" / "run_b" / "joint_positions.mat"
    savemat(path, {"pos_img": np.ones((2, 15, 2))})
    with pytest.raises(EvaluationError, match=r"pos_img is \[2, 15, 2\], must be \[2, joints"):
        read_clips(root, "jhmdb", "val")
    path.write_bytes(b"no matrix")
    with pytest.raises(EvaluationError, match=r"cannot be read as joint positions"):
        read_clips(root, "jhmdb", "val")


def test_masks_of_another_size_than_their_frames_are_refused(tmp_path: Path) -> None:
    root = davis(tmp_path, ("cat",))
    mask(root / "Annotations" / "480p" / "cat" / "00002.png", np.zeros((6, 8)))
    (clip,) = read_clips(root, "davis", "val")
    with pytest.raises(EvaluationError, match=r"00002.png is 8×6 and its frame .* is 16×12: a "):
        clip.mask(2)


def test_masks_in_colours_and_files_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    root = davis(tmp_path, ("cat",))
    picture(root / "Annotations" / "480p" / "cat" / "00000.png")
    (root / "JPEGImages" / "480p" / "cat" / "00001.jpg").write_bytes(b"nothing")
    (clip,) = read_clips(root, "davis", "val")
    with pytest.raises(
        EvaluationError, match=r"00000.png holds colours, .* \(RGB\); a mask is a PNG"
    ):
        clip.mask(0)
    with pytest.raises(EvaluationError, match=r"00001.jpg cannot be read as a picture"):
        clip.frame(1)


def test_what_cannot_be_propagated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no layout 'ytvos'; there are davis, vip, jhmdb"):
        read_clips(tmp_path, "ytvos", "val")
    with pytest.raises(EvaluationError, match=r"holds no clips in the layout of davis"):
        read_clips(tmp_path, "davis", "val")
    short = davis(tmp_path / "short", ("cat",), frames=2)
    with pytest.raises(EvaluationError, match=r"clip 'cat' has 2 frames, and propagation needs 3"):
        read_clips(short, "davis", "val")
    root = davis(tmp_path / "unlabelled", ("cat",))
    (root / "Annotations" / "480p" / "cat" / "00000.png").unlink()
    with pytest.raises(EvaluationError, match=r"no mask of the first frame, 00000.png"):
        read_clips(root, "davis", "val")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (b"cat\n../../dog\n", r"val.txt has '../../dog'; a list names clips by their folders"),
        (b"..\n", r"val.txt has '..'; a list"),
        (b"cat dog cat\n", r"val.txt names 'cat' twice: each clip counts once"),
        (b"\xff\xfe", r"val.txt cannot be read as a list of clips"),
    ],
)
def test_lists_of_other_things_than_clips_are_refused(
    tmp_path: Path, listed: bytes, message: str
) -> None:
    root = davis(tmp_path)
    path = root / "ImageSets" / "2017" / "val.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(listed)
    with pytest.raises(EvaluationError, match=message):
        read_clips(root, "davis", "val")


def test_a_first_mask_without_an_object_and_16_bits_are_refused(tmp_path: Path) -> None:
    root = davis(tmp_path, ("cat",))
    path = root / "Annotations" / "480p" / "cat" / "00000.png"
    (clip,) = read_clips(root, "davis", "val")
    mask(path, np.pad(np.full((4, 4), 255), ((4, 4), (6, 6))))
    with pytest.raises(EvaluationError, match=r"00000.png shows no object: each of its pixels is"):
        clip.mask(0)
    Image.fromarray(np.ones((12, 16), np.uint16)).save(path)
    with pytest.raises(EvaluationError, match=r"holds colours, or more than 8 bits \(I;16\)"):
        clip.mask(0)
