"""The keys of `curate:` in a retrain config: what is kept, in which forms, in which shares.

The defaults come from measurements and papers that the text below each key names in a word; a
config that changes nothing is a good one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class CurateConfig(BaseModel):
    """Everything that decides what becomes of a row; frozen, no unknown key."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    # --- which rows
    min_question: Annotated[int, Field(ge=1)] = 2
    """Shortest question, in characters: 2 is a Chinese word."""
    max_question: Annotated[int, Field(ge=2)] = 4000
    """Longest question, in characters; longer ones are documents pasted into the chat."""
    min_answer: Annotated[int, Field(ge=1)] = 2
    """Shortest answer, in characters. An answer of a person may be shorter: `7`."""
    max_answer: Annotated[int, Field(ge=2)] = 8000
    """Longest answer, in characters; a longer one is never cut, it is left out."""
    min_score: float | None = None
    """Smallest score that people gave, on the scale of their tool. null looks at thumbs alone,
    because scales differ from tool to tool."""
    languages: tuple[Literal["zh", "en", "ja", "ko", "ru", "ar", "hi", "th"], ...] = ()
    """Languages of questions and answers, told by their letters (`en`: any Latin letters). Empty
    takes all."""
    min_distinct: Share = 0.3
    """Smallest share of distinct 4-grams in an answer; below, it goes round in circles."""
    min_coverage: Share = 0.1
    """Smallest share of a model's answer (character 3-grams) that stands in its contexts. A right
    paraphrase was measured at 0.17, so this only finds answers about something else. 0 for
    contexts in another language than the answers."""
    pii: Literal["scrub", "drop", "off"] = "scrub"
    """What becomes of personal data and secrets. scrub puts placeholders that are the same
    throughout a row, drop leaves the row out, off trains on them."""
    pii_keep: tuple[str, ...] = ()
    """Texts that look like personal data and are public: `service@example.com`, `400-123-4567`."""

    # --- whose answers
    weight_human: Annotated[int, Field(ge=0, le=10)] = 3
    """Samples made of a row whose answer a person wrote, or approved in review."""
    weight_correction: Annotated[int, Field(ge=0, le=10)] = 3
    """Samples of a row whose answer a person corrected."""
    weight_thumbs_up: Annotated[int, Field(ge=0, le=10)] = 2
    """Samples of a row whose answer somebody liked."""
    weight_grounded: Annotated[int, Field(ge=0, le=10)] = 1
    """Samples of a model's answer whose every number, date and address stands in what it was given.
    A model's answer without any such ground is never learned: models that learn from themselves
    degrade (Shumailov 2024)."""
    grounded_cap: Share = 0.7
    """Largest share of new samples that may come from a model's grounded answers. What is over it
    waits for the next cycle. 1 trains on grounded answers alone."""

    corrected_since: Literal["keep", "drop"] = "keep"
    """What becomes of rows that say word for word what people corrected later, at a question in
    other words. drop where facts change; keep where one question's wrong answer is another's right
    one, as a model that mixes things up makes it. A note says how many there are."""

    # --- forms
    closed_book: Share = 0.5
    """Share of samples without contexts: they move knowledge into the weights."""
    open_book: Share = 0.4
    """Share of samples with contexts, in the prompt that was captured: they teach to read."""
    refusal: Share = 0.1
    """Share of samples whose contexts do not hold the answer, and whose answer says so."""
    distractors: Annotated[int, Field(ge=0, le=20)] = 3
    """Contexts beside the right one in an open-book sample: the row's own first, then others'.
    RAFT's default."""
    golden_share: Share = 0.8
    """How often an open-book sample holds the right context. Without it the answer is asked for all
    the same where a person wrote it, as in RAFT; a model's answer is never asked for without it."""
    refusal_zh: str = "根据现有资料，我无法回答这个问题。"
    """The answer of a refusal sample in Chinese."""
    refusal_en: str = "The documents I was given do not answer this question."
    """The answer of a refusal sample in any other language."""
    template_zh: str = "请只根据下面的资料回答问题。\n\n资料：\n{contexts}\n\n问题：{question}"
    """Open-book prompt of rows whose own prompt was not captured, when no other row's was."""
    template_en: str = (
        "Answer the question from these documents alone.\n\nDocuments:\n{contexts}\n\n"
        "Question: {question}"
    )
    """The same in any other language."""

    # --- how much
    max_samples: Annotated[int, Field(ge=10)] = 20_000
    """Largest data set. New rows that find no place wait for the next cycle."""
    new_to_old: Annotated[float, Field(gt=0)] = 3.0
    """New samples to one old one when the new ones fill a quarter of max_samples or more; fewer new
    ones are joined by as much of the history as has place."""
    general_data: Path | None = None
    """A file of general conversations against forgetting; any format that `train` reads."""
    general_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    """Share of general_data in the data set."""

    # --- what is held out
    fresh_share: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of new rows that the gate asks and nobody trains on; whole groups of like questions."""
    fresh_min: Annotated[int, Field(ge=0)] = 50
    """At least so many fresh rows, though never more than a third of all."""
    fresh_from: Annotated[int, Field(ge=0)] = 60
    """Fewer kept rows than this give only fresh_share of them to the gate and none to validation: a
    third of twenty facts would be too much to leave untaught for a test that proves little."""
    val_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Share of kept rows whose loss is measured and that are not trained on."""
    contamination: Annotated[float, Field(gt=0, le=1)] = 0.6
    """A question this like (Jaccard similarity of character 3-grams) to one of an evaluation set is
    not trained on. The same number groups questions for fresh and validation rows."""

    @model_validator(mode="after")
    def _fits(self) -> CurateConfig:
        total = self.closed_book + self.open_book + self.refusal
        if abs(total - 1) > 1e-9:
            raise ValueError(f"closed_book + open_book + refusal is {total:g}, and must be 1")
        for name in ("template_zh", "template_en"):
            text = getattr(self, name)
            if "{contexts}" not in text or "{question}" not in text:
                raise ValueError(f"{name} must hold {{contexts}} and {{question}}")
        return self

    def weight(self, origin: str) -> int:
        """Samples made of a row whose answer has this origin."""
        return {
            "human": self.weight_human,
            "correction": self.weight_correction,
            "thumbs_up": self.weight_thumbs_up,
            "grounded_model": self.weight_grounded,
        }.get(origin, 0)
