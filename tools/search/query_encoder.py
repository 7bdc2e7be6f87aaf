"""Turns what is asked with into a vector: media files and words, by the run that an index is of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from shards.reading.media_file import MediaFile
from tools.evaluation.embeddings import EmbedOptions
from tools.evaluation.encoders import trained_encoder
from tools.evaluation.errors import EvaluationError
from tools.evaluation.split import unit_rows
from tools.runs.run import choose_device, load_run
from tools.search.encode import embed_media
from tools.search.index import SearchIndex

Vector = npt.NDArray[np.float32]


class QueryEncoder:
    """The encoders of an index's run.

    Args:
        index: whose vectors queries are compared with.
        path: folder of its run.
        device: "cpu", "cuda" or "auto".

    Raises:
        RunError: there is no such run.
        EvaluationError: the index was made with other weights.
    """

    def __init__(self, index: SearchIndex, path: Path, device: str) -> None:
        device_to_use = choose_device(device)
        self.run = load_run(path)
        self._encoder = trained_encoder(self.run)
        made = index.facts["run"]
        if self._encoder.weights != made["weights"]:
            raise EvaluationError(
                f"{index.path} was made with other weights (step {made['step']}) than "
                f"{path} has now (step {self.run.step}): their vectors cannot be "
                "compared. Run `gdt embed` again, or name that run with --run"
            )
        self._options = EmbedOptions(tuple(index.facts["places"]), device=device_to_use)

    @property
    def modalities(self) -> Sequence[str]:
        """What there are encoders for."""
        return self.run.plan.modalities

    def media(self, media: MediaFile, by: str = "") -> tuple[str, Vector]:
        """What a file is taken as, and its vector [D] of length 1.

        Raises:
            EvaluationError: the run has no encoder for it, or it cannot be decoded.
        """
        by = by or self._modality_of(media)
        self._check(by)
        return by, embed_media(self.run, self._encoder, media, [by], self._options)[by]

    def words(self, words: str) -> Vector:
        """The vector [D] of length 1 of words, as of a caption.

        Raises:
            EvaluationError: the run has no encoder for text.
        """
        self._check("text")
        assert self.run.device_transform.tokens is not None
        tokens = self.run.device_transform.tokens([words]).to(self._options.device)
        self._encoder.method.to(self._options.device).eval()
        with torch.inference_mode():
            (vector,) = unit_rows(self._encoder.rows("embeddings", "text", tokens))
        return np.asarray(vector)

    def _check(self, by: str) -> None:
        if by not in self.modalities:
            raise EvaluationError(
                f"{self.run.path} has no encoder for {by!r}: its plan has the modalities "
                f"{', '.join(self.modalities)}"
            )

    def _modality_of(self, media: MediaFile) -> str:
        """What a file is taken as: a still as image where there is an encoder for it."""
        sample = media.sample(0)
        wanted = ["audio"] if sample.video is None else ["video", "image", "audio"]
        if sample.video is not None and sample.video.is_still:
            wanted = ["image", "video"]
        if sample.audio is None and "audio" in wanted:
            wanted.remove("audio")
        for modality in wanted:
            if modality in self.modalities:
                return modality
        raise EvaluationError(
            f"{media.path} could be asked as {' or '.join(wanted) or 'nothing'}, and "
            f"{self.run.path} has encoders for {', '.join(self.modalities)} alone"
        )
