"""Features of prompts, and signals and answers of responses."""

from cascjax.features.answers import CONVENTIONS
from cascjax.features.prompts import (
    TextModel,
    fit_text_model,
    read_text_model,
    text_features,
    write_text_model,
)
from cascjax.features.responses import response_answers, response_signals

__all__ = [
    "CONVENTIONS",
    "TextModel",
    "fit_text_model",
    "read_text_model",
    "response_answers",
    "response_signals",
    "text_features",
    "write_text_model",
]
