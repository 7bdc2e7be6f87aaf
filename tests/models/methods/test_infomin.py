"""InfoMin equals PyContrast's numbers over steps: both losses, gradients, queue."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gdt import Batch, View
from models.methods.infomin import InfoMin, InfoMinOptions
from tests.models.conftest import THREE_VIEWS, random_batch
from tests.models.golden_numbers import close, golden, tensor

PLAN = THREE_VIEWS
VIEW = PLAN.names.index("augmentation")


def test_losses_gradients_and_queue_over_steps_equal_the_authors(
    build_small: Callable[..., Any],
) -> None:
    given, expected = golden("infomin", "infomin_moco_jigsaw")
    size, dim = len(given["queue0_rows"]), len(given["queue0_rows"][0])
    changes = {"embedding_dim": dim, "queue_size": size, "temperature": given["T"]}
    method: InfoMin = build_small("infomin", PLAN, jigsaw_share=given["beta"], **changes).double()
    method.queue.rows.copy_(tensor(given["queue0_rows"]))
    for number, (step, wanted) in enumerate(zip(given["steps"], expected["steps"], strict=True)):
        rows = [tensor(step[name]).requires_grad_(name != "k") for name in ("q", "k", "q_jig")]
        codes = PLAN.codes(10 * number + torch.arange(len(rows[0])))
        of = [codes[codes[:, VIEW] == view] for view in range(3)]
        given_by_view = dict(enumerate(zip(rows, of, strict=True)))

        def embed(towers: Any, batch: Batch, known: Any = given_by_view) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = known[int(batch.views[0].codes[0, VIEW])]
            return found

        method._embed_groups = embed  # type: ignore[method-assign]
        method.jigsaw.embed = lambda towers, view, known=rows: known[2]  # type: ignore[method-assign, misc]
        values = torch.zeros(len(codes), 3, 8, 8)
        losses = method(Batch((View("image", values, codes),), 0, number))
        close(losses.total, wanted["loss"])
        close(losses.parts["query"], wanted["loss_image"])
        close(losses.parts["jigsaw"], wanted["loss_jigsaw"])
        losses.total.backward()
        for row, name in ((rows[0], "q"), (rows[2], "q_jig")):
            assert row.grad is not None
            close(row.grad, wanted[f"grad_{name}"])
    close(method.queue.rows, expected["queue_final"])


def test_the_momentum_encoder_follows_after_the_step(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = build_small("infomin", PLAN)
    first = [p.clone() for p in method.momentum.network.parameters()]
    method(random_batch(PLAN, [0, 1, 2], [2])).total.backward()
    assert all(map(torch.equal, first, method.momentum.network.parameters()))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.jigsaw.parameters())
    with torch.no_grad():
        for parameter in method.towers.parameters():
            parameter.add_(1)
    method.after_step(0)
    for before, now in zip(first, method.momentum.network.parameters(), strict=True):
        torch.testing.assert_close(now, before + 0.1)


def test_defaults_are_the_authors() -> None:
    options = InfoMinOptions()
    assert (options.temperature, options.queue_size, options.momentum) == (0.15, 65536, 0.999)
    assert (options.jigsaw_share, options.num_pieces, options.hidden_dim) == (0.5, 9, 2048)
