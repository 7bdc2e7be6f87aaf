"""What evaluation refuses: input that does not fit what was asked; the message says what to do."""


class EvaluationError(Exception):
    """Labels, modalities, embeddings or settings that do not go with the evaluation asked for."""
