"""chat.py: conversations with a template, without one, and with templates that have their own ideas."""

from __future__ import annotations

import pytest
from tiny_models import CHAT_TEMPLATE, tiny_tokenizer

from continual_learning.errors import InputError
from continual_learning.model.chat_template import ChatFormat, Message

SYSTEM: Message = {"role": "system", "content": "Be brief."}
USER: Message = {"role": "user", "content": "Who?"}
ASSISTANT: Message = {"role": "assistant", "content": "Biko."}

NO_SYSTEM_ROLE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<turn>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)


def chat(template: str | None, **tokens: str) -> ChatFormat:
    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.chat_template = template
    for name, token in tokens.items():
        setattr(tokenizer, name, token)
    return ChatFormat(tokenizer)


def test_the_templates_own_system_prompt_can_be_left_out() -> None:
    format_ = chat(CHAT_TEMPLATE)
    turn = "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    own = "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n"
    assert format_.render([USER]) == own + turn
    assert format_.render([USER], system=False) == turn
    assert format_.render([USER], add_generation_prompt=False, system=False) == "<|im_start|>user\nWho?<|im_end|>\n"


def test_a_system_message_that_is_given_always_stays() -> None:
    text = chat(CHAT_TEMPLATE).render([SYSTEM, USER], system=False)
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user")


def test_a_bos_token_that_opens_turns_is_no_prefix_to_keep() -> None:
    # SmolLM2's bos token is <|im_start|>: kept in front, it would stand there twice.
    format_ = chat(CHAT_TEMPLATE, bos_token="<|im_start|>")
    assert format_.render([USER], system=False).startswith("<|im_start|>user")


def test_a_bos_token_stays_and_a_system_message_joins_the_user_where_there_is_no_such_role() -> None:
    format_ = chat(NO_SYSTEM_ROLE, bos_token="<|im_start|>")
    assert format_.render([USER], system=False) == "<|im_start|><turn>user\nWho?<|im_end|>\n<turn>model\n"
    assert "<turn>user\nBe brief.\n\nWho?<|im_end|>" in format_.render([SYSTEM, USER])
    with pytest.raises(InputError, match="refuses a conversation of user, system: System role not supported"):
        format_.render([USER, SYSTEM])


def test_end_of_turn_is_the_special_token_after_the_assistants_words() -> None:
    tokenizer = tiny_tokenizer()
    assert ChatFormat(tokenizer).end_of_turn == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert chat("{% for m in messages %}{{ m.content }} and on{% endfor %}").end_of_turn is None
    assert chat(None).end_of_turn is None


def test_without_a_template_it_is_a_transcript() -> None:
    format_ = chat(None)
    assert format_.render([USER]) == "Question: Who?\nAnswer:"
    assert format_.render([SYSTEM, USER, ASSISTANT, USER]) == (
        "Be brief.\n\nQuestion: Who?\nAnswer: Biko.\n\nQuestion: Who?\nAnswer:"
    )
    assert format_.render([USER, ASSISTANT], add_generation_prompt=False) == "Question: Who?\nAnswer: Biko."
    assert format_.stop_text == "\nQuestion:"


def test_a_turn_that_ends_with_its_own_question_is_not_labelled_again() -> None:
    read: Message = {"role": "user", "content": "Be brief.\n\n<passage>\nBiko barks.\n</passage>\n\nQuestion: Who?"}
    asks = "Be brief.\n\n<passage>\nBiko barks.\n</passage>\n\nQuestion: Who?\nAnswer:"
    assert chat(None).render([read, ASSISTANT, USER]) == f"{asks} Biko.\n\nQuestion: Who?\nAnswer:"
    said: Message = {"role": "user", "content": "Question: Who?\n\nNobody knows."}
    assert chat(None).render([said]) == "Question: Question: Who?\n\nNobody knows.\nAnswer:"


def test_bad_conversations() -> None:
    with pytest.raises(InputError, match="0 messages"):
        chat(None).render([])
    with pytest.raises(InputError, match="role 'robot'; expected one of system, user, assistant"):
        chat(None).render([{"role": "robot", "content": "?"}])
