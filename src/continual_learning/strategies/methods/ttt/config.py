"""Settings of TTT-E2E."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from continual_learning.reading.span_reader.answering import SpanAnswerConfig
from continual_learning.training.examples import StudyMaterial


class TTTConfig(SpanAnswerConfig):
    """Settings of the ttt strategy. The defaults take about 8 s for 140 tokens on two cores (benchmarks/)."""

    # Where the weights are that learn.
    first_block: int | None = Field(None, ge=0)
    """First block with a Dual MLP; none: the last quarter of the blocks."""
    last_block: int | None = Field(None, ge=1)
    """Block after the last one with a Dual MLP; none: all to the end."""
    neurons: int | None = Field(28, ge=1)
    """Neurons of each block that learn a passage; none: all of them."""
    selection: Literal["tfidf", "tf", "random"] = "tfidf"
    """How they are chosen: by accesses and rarity in background text, by accesses alone, or by chance."""
    access_share: float = Field(0.03, gt=0, le=1)
    """Share of a block's neurons that a token counts as accessing."""
    train: Literal["values", "all"] = "all"
    """Which of their weights learn: the output weights, or the input weights too."""
    start: str | None = None
    """Where every branch begins: a file that `continual-learning train start` wrote, or `packaged`. Its blocks, neurons
    and kind of weights go before those above. None: a copy of the passage's neurons with output weights of zero."""
    background: Path | None = None
    """Texts to calibrate on (see `background.background_texts`); none: those that ship with the package."""
    calibration_samples: int | None = Field(None, ge=2)
    """How many of them count; none: all."""
    gate_threshold: float = Field(0.0, ge=0, le=1)
    """Neurons whose TF-IDF score is below this share of their block's highest do not learn, whatever `neurons` says."""

    # How much the branch says: out = frozen(x) + (1 - alpha) * branch(x).
    alpha_initial: float = Field(0.0, ge=0, le=1)
    """alpha before anything is learned."""
    alpha_decay: float = Field(0.0, ge=0, le=1)
    """How much alpha falls with every document; it falls before the document is learned."""
    alpha_min: float = Field(0.0, ge=0, lt=1)
    """What alpha never falls below."""

    # What is studied.
    passage_tokens: int = Field(200, ge=16)
    """Longest passage that has a branch of its own; longer documents are cut into several."""
    address: Literal["part", "question"] = "part"
    """What a passage is tied to in the weights: a cue for each of its parts, of which a question's words choose
    (`parts`), or many telegraphic questions, from which the model itself finds the place (`study`)."""
    part_tokens: int = Field(20, ge=4)
    """Longest part."""
    quote_tokens: int = Field(24, ge=4)
    """An answer recites the parts that these many tokens reach, from the best on."""
    fragment_tokens: int = Field(20, ge=4)
    """Longest fragment that questions are asked about."""
    answer_tokens: int = Field(23, ge=4)
    """Longest answer that is learned: a fragment and what follows it in the passage."""
    questions_per_fragment: int = Field(6, ge=0)
    """Telegraphic questions made for each fragment."""
    full_answer_every: int = Field(3, ge=1)
    """Every n-th question of a fragment is answered in full, the others by the fragment's first tokens:
    those decide which fragment it is, and the rest needs to be learned only once."""
    answer_start_tokens: int = Field(4, ge=1)
    """How many tokens those first tokens are."""
    text_copies: int = Field(0, ge=0)
    """Copies of the whole passage as plain text in the study material."""
    chat_copies: int = Field(0, ge=0)
    """Copies of it as an answer to being asked about its title."""
    title_on_passages: bool = True
    """Whether the document's title stands before each copy and in some of the questions."""
    max_tokens: int = Field(4096, ge=1)
    """Longest document; what is beyond is left out, with a word about it."""

    # Study material that another model wrote, beside one's own.
    study_file: Path | None = None
    """JSON lines with `context` and any of `qa`, `rewrites`, `implications`: what larger models wrote about them."""
    study_model: str | None = None
    """A larger model that is asked for such material, by its name at `study_model_url`."""
    study_model_url: str = "http://localhost:11434/v1"
    """Where it answers: any address that speaks OpenAI's chat completions; the default is Ollama's."""

    study_statements: int = Field(16, ge=0)
    """How many of its rewrites and statements are studied, drawn for each passage; its questions all are."""

    # What other models' probabilities teach, beside the tokens themselves.
    distill_weight: float = Field(0.0, ge=0)
    """Weight of KL to the base that has the passage in its prompt, on the answers that are studied."""
    replay_weight: float = Field(0.0, ge=0)
    """Weight of KL to the base on ordinary text: a background text goes with every step."""
    replay_texts: int = Field(16, ge=1)
    """How many background texts take turns."""
    replay_tokens: int = Field(64, ge=2)
    """Longest beginning of one that is read."""
    soft_top_k: int = Field(32, ge=1)
    """Tokens of a distribution that are kept; the others count as one."""

    # The inner loop.
    rivals: Literal["background", "vocabulary"] = "background"
    """Tokens that compete with the learned ones in the loss: those of the background texts, or all."""
    optimizer: Literal["adamw", "muon", "sgd"] = "adamw"
    """The inner rule; sgd is the published one."""
    learning_rate: float = Field(2e-2, ge=0, le=10)
    """Its highest value; it rises during the warm-up and falls to a tenth after."""
    layer_rate_decay: float = Field(1.0, gt=0, le=1)
    """Learning rate of each block as a share of the next one's; 1: all learn alike."""
    passages_together: int = Field(4, ge=1)
    """Passages of a document, and documents given together, that descend in step: a larger batch, more memory."""
    mini_batch_tokens: int = Field(160, ge=1)
    """Tokens of a mini-batch, padding included."""
    gradient_steps: int = Field(1, ge=1)
    """Steps on each mini-batch."""
    passes: int = Field(12, ge=1)
    """Passes over the study material."""
    repair_rounds: int = Field(5, ge=0)
    """Rounds of two passes more over the parts that are then not recited word for word."""
    clip_norm: float = Field(1.0, gt=0)
    """Global norm to which gradients are clipped."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Share of the steps in which the learning rate rises."""
    max_seconds: float | None = Field(None, gt=0)
    """Wall-clock limit for a document; what is learned by then is checked and kept. None: as long as it takes."""
    seed: int = 0
    """Of the questions that are made and the order in which they are studied."""

    # Answering.
    routing: bool = True
    """Open a passage's branch only for questions about it; otherwise every branch is always open."""
    route_threshold: float = Field(0.25, ge=0, le=1)
    """Share of a question's content, weighted by rarity, that a passage must hold to be opened."""
    route_evidence: float = Field(7.7, ge=0)
    """Rarity that the shared words must add up to, in nats: a word that no background text uses counts 5."""

    # Refusing to get worse.
    guard: bool = True
    """Check after learning, and keep the previous memory if a limit is passed."""
    probes: int = Field(6, ge=1)
    """Held-out cloze questions of the document in that check."""
    min_recall_gain: float = Field(0.0, ge=0, lt=1)
    """Recall of the probes must rise by more than this."""
    max_perplexity_rise: float = Field(0.03, ge=0)
    """Largest relative rise of the perplexity of unrelated text."""
    min_general_kept: float = Field(0.95, ge=0, le=1)
    """Smallest share of general questions that must stay right."""

    @model_validator(mode="after")
    def _can_learn(self) -> Self:
        if self.alpha(1) >= 1.0:
            raise ValueError(
                "alpha is still 1 when the first document is learned, so the branch would get no gradient and learn "
                "nothing; set alpha_initial below 1 or alpha_decay above 0"
            )
        if self.first_block is not None and self.last_block is not None and self.first_block >= self.last_block:
            raise ValueError(f"first_block {self.first_block} must be below last_block {self.last_block}")
        if self.start is not None and not self.routing:
            raise ValueError(
                f"start {self.start!r} with routing off would be added once a passage; set routing to true, or leave "
                "start out"
            )
        studied = self.questions_per_fragment or self.text_copies or self.chat_copies
        if self.address == "question" and not studied:
            raise ValueError(
                "there is nothing to study; set questions_per_fragment, text_copies or chat_copies above 0"
            )
        if self.address == "part" and not self.routing:
            raise ValueError(
                "address 'part' recites one passage, and without routing all are open; "
                "set routing to true or address to question"
            )
        return self

    def alpha(self, position: int) -> float:
        """alpha of the document learned as the ``position``-th, counted from 1."""
        return max(self.alpha_min, self.alpha_initial - self.alpha_decay * position)

    @property
    def study_material(self) -> StudyMaterial:
        """What is made of a passage to study it."""
        return StudyMaterial(
            fragment_tokens=self.fragment_tokens,
            answer_tokens=self.answer_tokens,
            questions_per_fragment=self.questions_per_fragment,
            full_answer_every=self.full_answer_every,
            answer_start_tokens=self.answer_start_tokens,
            text_copies=self.text_copies,
            chat_copies=self.chat_copies,
        )

    @property
    def alpha_varies(self) -> bool:
        """Whether alpha depends on how many documents were learned before."""
        return self.alpha_decay > 0 and self.alpha_initial > self.alpha_min
