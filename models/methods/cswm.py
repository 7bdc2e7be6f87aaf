"""C-SWM: find objects in frames, and what an action changes, so that the next frame's are foretold.

Kipf et al., "Contrastive Learning of Structured World Models", ICLR 2020, arXiv:1911.12247, §3. A
clip is an episode: the frames of a segment, and the action between each two of them, `actions` of
the sample's json. Nothing is painted: states of the next frame are foretold, and those of other
moments are pushed away. The negative is one of the earlier frames' states, as in the authors' code.

Legend: B clips of T frames, R = B · (T − 1) transitions, K objects, D state of an object.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts.object_graph import ObjectGraph, actions_on_objects, object_mlp
from models.towers import Towers, at_least_float32


@dataclass(frozen=True)
class CSWMOptions(MethodOptions):
    """`[method]`: a world model of objects that learns by contrast.

    Attributes:
        name: "cswm".
        num_objects: K.
        object_dim: D.
        hidden_dim: width of the networks of states and transitions.
        map_size: cells in a row of the encoder's map: 5 of 50 pixels with encoders.video =
            "cell_cnn".
        actions: "factored": action A·k + a is done to object k; "copied": action a to all; "none":
            nothing is done.
        num_actions: A of an object.
        sigma: distances are measured by; σ.
        hinge: how far states of other moments are pushed away; γ.
    """

    name: Literal["cswm"] = "cswm"
    num_objects: int = 5
    object_dim: int = 2
    hidden_dim: int = 512
    map_size: int = 5
    actions: Literal["factored", "copied", "none"] = "factored"
    num_actions: int = 4
    sigma: float = 0.5
    hinge: float = 1.0

    def __post_init__(self) -> None:
        self._check_counts("num_objects", "object_dim", "hidden_dim", "map_size", "num_actions")
        for key in ("sigma", "hinge"):
            self._check(key, 0 < getattr(self, key) < float("inf"), "above 0")

    @property
    def num_kinds(self) -> int:
        """How many different actions there are."""
        copies = {"factored": self.num_objects, "copied": 1, "none": 0}
        return self.num_actions * copies[self.actions]


class CSWM(Method):
    """An encoder of frames, a map and a state for each object, and a graph network of transitions.

    Raises:
        ValueError: another plan than one segment of video a clip, or actions that there are not.
    """

    options_type = CSWMOptions
    beyond_encoder = "features are the states that a network finds, of each object in each frame"
    needs = Needs(
        1, 1, positives=False, one_modality=True, actions=True, why="C-SWM foretells frames"
    )
    actions: Tensor | None  # int64 N × T−1

    def __init__(self, options: CSWMOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        if self.plan.modalities != ("video",) or self.plan.num_transformations != 1:
            raise ValueError(
                'C-SWM foretells frames: plan.modality.values must be ["video"], and no factor may '
                f"have several draws; got {', '.join(self.plan.modalities)} and "
                f"{self.plan.num_transformations} rows a sample"
            )
        self.towers = Towers(setting.encoders, self.plan, lambda features_dim: nn.Identity())
        channels = self.towers.encoder("video").embedding_dim
        self.object_maps = nn.Conv2d(channels, options.num_objects, kernel_size=1)
        nn.init.xavier_uniform_(self.object_maps.weight)
        self.states_of_maps = object_mlp(
            options.map_size**2, options.hidden_dim, options.object_dim
        )
        done = 0 if options.actions == "none" else options.num_actions
        self.graph = ObjectGraph(options.object_dim, options.hidden_dim, done)
        actions = None if setting.actions is None else torch.as_tensor(setting.actions)
        self._check_actions(actions)
        self.register_buffer("actions", actions, persistent=False)  # the data set's, not learned

    def _check_actions(self, actions: Tensor | None) -> None:
        kinds = self.options.num_kinds
        if actions is not None and kinds and int(actions.max()) >= kinds:
            raise ValueError(
                f"a sample's actions go up to {int(actions.max())}, and method.num_actions = "
                f"{self.options.num_actions}, {self.options.actions}, are {kinds} from 0 on: set "
                "method.num_objects and method.num_actions to what the data set has"
            )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, and its two parts.

        Raises:
            ValueError: samples without actions, or with others than between the frames.
        """
        (view,) = self.towers.views(batch)
        states = self.states(view.values)  # B × T × K × D
        actions = self.done(view.codes[:, self.plan.names.index("sample")], states.shape[1])
        before, after = (
            part.flatten(0, 1) for part in (states[:, :-1], states[:, 1:])
        )  # R × K × D
        with torch.autocast(states.device.type, enabled=False):
            change = self.graph(before, self.on_objects(actions.flatten()))
            others = before[self.draw_order(len(before)).to(before.device)]
            near = self.energy(before + change - after)
            far = F.relu(self.options.hinge - self.energy(before - others))
            parts = {"foretold": global_mean(near), "apart": global_mean(far)}
            return Losses(parts["foretold"] + parts["apart"], parts)

    def draw_order(self, count: int) -> Tensor:
        """Draw which other transition each is compared with, from torch's generator: int64 [R]."""
        return torch.randperm(count)  # on the CPU: the same on any device

    def energy(self, differences: Tensor) -> Tensor:
        """Return the mean squared length of objects' differences [R, K, D] over 2σ²: [R]."""
        return differences.square().sum(dim=2).mean(dim=1) * (0.5 / self.options.sigma**2)

    def done(self, samples: Tensor, num_frames: int) -> Tensor:
        """Return what is done to samples [B] between their frames: int64 [B, T − 1].

        Raises:
            ValueError: their actions are not known, or not as many.
        """
        if self.options.actions == "none":
            return samples.new_zeros(len(samples), num_frames - 1)
        if self.actions is None:
            raise ValueError(
                "the samples have no actions: C-SWM takes them of each sample's json; set "
                'method.actions = "none" for clips in which nothing is done'
            )
        actions = self.actions[samples]
        if actions.shape[1] != num_frames - 1:
            raise ValueError(
                f"a clip has {actions.shape[1]} actions, and a segment {num_frames} frames: set "
                f"segment.num_frames = {actions.shape[1] + 1}, of the whole clip"
            )
        return actions

    def on_objects(self, actions: Tensor) -> Tensor:
        """Return actions [R] as what is done to each object, [R, K, A]; A = 0 where nothing is."""
        options = self.options
        if options.actions == "none":
            return self.object_maps.weight.new_zeros(len(actions), options.num_objects, 0)
        if options.actions == "copied":
            alike = F.one_hot(actions, options.num_actions)[:, None]
            on_each = alike.expand(-1, options.num_objects, -1)
        else:
            on_each = actions_on_objects(actions, options.num_objects, options.num_actions)
        return on_each.to(self.object_maps.weight.dtype)

    def states(self, values: Tensor) -> Tensor:
        """Find the objects of clips [B, 3, T, H, W]: states [B, T, K, D].

        Raises:
            ValueError: maps of another size.
        """
        maps = self.towers.maps("video", values).transpose(1, 2)  # B × T × C × h × w
        size = self.options.map_size
        if maps.shape[3:] != (size, size):
            height, width = maps.shape[3:]
            raise ValueError(
                f"method.map_size = {size}, and frames of {values.shape[3]}×{values.shape[4]} have "
                f"maps of {height} × {width}: set it to that, or video_augment.size to another"
            )
        objects = self.object_maps(maps.flatten(0, 1)).sigmoid()  # B·T × K × h × w
        states = at_least_float32(self.states_of_maps(objects.flatten(2)))
        return cast(Tensor, states.unflatten(0, maps.shape[:2]))

    def foretell(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return the states [B, n, K, D] after each of actions [B, n], from states [B, K, D]."""
        found = []
        for action in actions.unbind(1):
            states = states + self.graph(states, self.on_objects(action))
            found.append(states)
        return torch.stack(found, dim=1)

    def features(self, modality: str, values: Tensor) -> Tensor:
        """Encode clips: the states of all frames, [B, T·K·D]."""
        self.towers.encoder(modality)  # refuses what the plan does not have
        return self.states(values).flatten(1)

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed clips: their features, L2-normalised."""
        return F.normalize(self.features(modality, values), dim=1)
