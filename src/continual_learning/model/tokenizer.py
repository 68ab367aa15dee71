"""A byte-pair tokenizer, without Transformers: what this package asks of a tokenizer, from a folder's own files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as Backend

from continual_learning.errors import ModelError

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "mask_token")


class Tokenizer:
    """The tokenizer of a Hugging Face folder; methods and attributes are named and behave as in Transformers."""

    is_fast = True
    """It tells where each token lies in the text."""

    def __init__(
        self,
        backend: Backend,
        special: dict[str, str],
        chat_template: str | None,
        longest: float,
        more_special: Sequence[str] = (),
    ):
        self.backend_tokenizer = backend
        self.chat_template = chat_template
        self.model_max_length = longest
        self._special = special
        self.all_special_tokens = list(dict.fromkeys([*special.values(), *more_special]))
        """Names of the special tokens: start, end, unknown, padding, mask and what else the folder names."""

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """Read ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja``, if there is one.

        Raises ModelError for a ``tokenizer.json`` that cannot be read, OSError for a missing file.
        """
        about = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        try:
            backend = Backend.from_str((folder / "tokenizer.json").read_text("utf-8"))
        except OSError:
            raise
        except Exception as error:  # the library raises bare Exceptions
            raise ModelError(f"{folder / 'tokenizer.json'} cannot be read: {error}") from error
        template = folder / "chat_template.jinja"
        return cls(
            backend,
            {name: about[name] for name in _SPECIAL if about.get(name)},
            template.read_text("utf-8") if template.is_file() else None,
            about["model_max_length"],
            about.get("extra_special_tokens", ()),
        )

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    def __call__(
        self,
        text: str,
        add_special_tokens: bool = True,
        split_special_tokens: bool = False,
        return_offsets_mapping: bool = False,
        verbose: bool = True,
    ) -> dict[str, Any]:
        """``input_ids`` of a text and, if asked for, ``offset_mapping``: start and end of each token in it.

        ``split_special_tokens``: the name of a special token in the text is ordinary characters. ``verbose`` has no
        effect: nothing is said of texts longer than the model reads.
        """
        self.backend_tokenizer.encode_special_tokens = split_special_tokens
        encoded = self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens)
        found: dict[str, Any] = {"input_ids": encoded.ids}
        if return_offsets_mapping:
            found["offset_mapping"] = encoded.offsets
        return found

    def decode(
        self, ids: Sequence[int], skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        """The text of token ids, with its spaces as they are."""
        assert not clean_up_tokenization_spaces
        return self.backend_tokenizer.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens)

    def convert_tokens_to_ids(self, tokens: Sequence[str]) -> list[int | None]:
        """Ids of tokens by name; None for an unknown one."""
        return [self.backend_tokenizer.token_to_id(token) for token in tokens]

    @cached_property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Tokens added to the vocabulary, by id; ``special`` of each says whether it is a special one."""
        return dict(self.backend_tokenizer.get_added_tokens_decoder())

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of `all_special_tokens`."""
        return [i for i in self.convert_tokens_to_ids(self.all_special_tokens) if i is not None]

    @property
    def bos_token(self) -> str | None:
        """Name of the token that begins a text."""
        return self._special.get("bos_token")

    @property
    def bos_token_id(self) -> int | None:
        """Id of `bos_token`."""
        return self._id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token that ends a text."""
        return self._id("eos_token")

    @property
    def pad_token_id(self) -> int | None:
        """Id of the token that fills rows up."""
        return self._id("pad_token")

    def apply_chat_template(self, messages: Sequence[dict[str, str]], tokenize: bool, **given: Any) -> str:
        """A conversation as text; ``given`` are variables of the template. Raises jinja2.TemplateError."""
        assert not tokenize
        return self._template.render(messages=messages, **self._special, **given)

    @cached_property
    def _template(self) -> jinja2.Template:
        # As Transformers sets it up (its chat templating utilities): templates count on it.
        rooms = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        rooms.globals["raise_exception"] = _raise
        return rooms.from_string(self.chat_template or "")

    def _id(self, role: str) -> int | None:
        name = self._special.get(role)
        return None if name is None else self.backend_tokenizer.token_to_id(name)


def shorten(file: Path) -> None:
    """Write a ``tokenizer.json`` anew, so that it is read in little more than half the time.

    Merges are pairs of strings, which the library reads slowly; as one string each, as in its older files, they say the
    same unless a token holds a space.
    """
    about = json.loads(file.read_text("utf-8"))
    merges = about["model"].get("merges", [])
    if merges and not any(isinstance(merge, str) or " " in "".join(merge) for merge in merges):
        about["model"]["merges"] = [" ".join(merge) for merge in merges]
    file.write_text(json.dumps(about, ensure_ascii=False, separators=(",", ":")), "utf-8")


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
