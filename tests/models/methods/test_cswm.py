"""C-SWM equals its authors' numbers; a world of one moving thing is foretold."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gdt import Batch, View
from models import RunFacts, Setting, build_method
from models.methods.cswm import CSWM, CSWMOptions
from tests.models.conftest import CLIPS, SMALL_ENCODERS, SOUNDS, random_batch
from tests.models.golden_numbers import close, golden, tensor


@pytest.mark.parametrize("case", ["factored", "copied", "physics"])
def test_losses_transition_and_gradients_equal_the_authors(
    case: str, build_small: Callable[..., Any]
) -> None:
    given, expected = golden("cswm", case)
    method = build_small(
        "cswm",
        CLIPS,
        num_objects=given["num_objects"],
        object_dim=len(given["state"][0][0]),
        hidden_dim=4,
        actions="none" if given["ignore_action"] else case,
        num_actions=given["action_dim"] or 1,
        sigma=given["sigma"],
        hinge=float(given["hinge"]),
    ).double()
    weights = {key: tensor(value) for key, value in given["gnn_weights"].items()}
    method.graph.load_state_dict(weights)
    states = torch.stack([tensor(given["state"]), tensor(given["next_state"])], dim=1)
    states.requires_grad_()
    method.states = lambda values: states
    actions = torch.tensor(given["action"] or [0] * len(states))
    method.done = lambda samples, num_frames: actions[:, None]
    method.draw_order = lambda count: torch.tensor(given["negative_permutation"])
    close(method.graph(states[:, 0], method.on_objects(actions)), expected["transition"])
    codes = CLIPS.codes(torch.arange(len(states)))
    losses = method(Batch((View("video", torch.zeros(len(states), 1), codes),), 0, 0))
    close(losses.parts["foretold"], expected["positive_loss"])
    close(losses.parts["apart"], expected["negative_loss"])
    close(losses.total, expected["loss"])
    losses.total.backward()
    assert states.grad is not None
    close(states.grad[:, 0], expected["grad_state"])
    close(states.grad[:, 1], expected["grad_next_state"])
    found = dict(method.graph.named_parameters())
    for key, gradient in expected["grad_gnn"].items():
        close(found[key].grad, gradient)


def worlds(count: int, num_frames: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of a bright cell that is pushed on (0) or back (1) on a ring of 4, and the pushes."""
    pushes = torch.randint(2, (count, num_frames - 1))
    places = torch.randint(4, (count, 1)) + torch.cat(
        [torch.zeros(count, 1, dtype=torch.int64), (1 - 2 * pushes).cumsum(1)], dim=1
    )
    clips = torch.zeros(count, 3, num_frames, 20, 20)
    for cell in range(4):
        row, column = divmod(cell, 2)
        shown = (places % 4 == cell).float()[:, None, :, None, None]
        clips[:, :, :, 10 * row : 10 * row + 10, 10 * column : 10 * column + 10] = shown
    return clips, pushes


def test_what_a_push_does_is_learned() -> None:
    torch.manual_seed(0)
    clips, pushes = worlds(32)
    options = CSWMOptions(num_objects=1, hidden_dim=32, map_size=2, num_actions=2)
    setting = Setting(
        CLIPS,
        SMALL_ENCODERS.__class__(video="cell_cnn"),
        RunFacts(32, 32, 1, 60),
        actions=pushes.tolist(),
    )
    method = build_method(options, setting)
    assert isinstance(method, CSWM)
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    batch = Batch((View("video", clips, CLIPS.codes(torch.arange(32))),), 0, 0)
    losses = []
    for _ in range(60):
        loss = method(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    clips, pushes = worlds(16)
    with torch.no_grad():
        states = method.eval().states(clips)
        foretold = method.foretell(states[:, 0], pushes)
    error = (foretold[:, 0] - states[:, 1]).square().sum(dim=2).mean()
    still = (states[:, 0] - states[:, 1]).square().sum(dim=2).mean()
    assert error < 0.2 * still
    assert method.features("video", clips).shape == (16, 5 * 1 * 2)


def test_refusals(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r'must be \["video"\].* got audio and 1 rows a sample'):
        build_small("cswm", SOUNDS)
    batch = random_batch(CLIPS, range(2), shapes={"video": (3, 3, 20, 20)})
    small = {"num_objects": 2, "hidden_dim": 8, "map_size": 2}
    method = build_small("cswm", CLIPS, actions="copied", **small)
    with pytest.raises(
        ValueError, match=r"the samples have no actions: .* method.actions = \"none"
    ):
        method(batch)
    encoders, facts = SMALL_ENCODERS.__class__(video="cell_cnn"), RunFacts(2, 2, 1, 1)
    options = CSWMOptions(num_objects=2, hidden_dim=8, map_size=2, num_actions=3)
    many = Setting(CLIPS, encoders, facts, actions=[[0, 1, 2], [1, 1, 5]])
    with pytest.raises(ValueError, match=r"has 3 actions, and a segment 3 frames: set segment.num"):
        build_method(options, many)(batch)
    with pytest.raises(
        ValueError, match=r"go up to 6, and method.num_actions = 3, factored, are 6"
    ):
        build_method(options, Setting(CLIPS, encoders, facts, actions=[[0], [6]]))
    with pytest.raises(ValueError, match=r"map_size = 3, and frames of 20×20 have maps of 2 × 2"):
        build_small("cswm", CLIPS)(batch)
    with pytest.raises(ValueError, match=r"hinge = 0.0, must be above 0"):
        CSWMOptions(hinge=0.0)
