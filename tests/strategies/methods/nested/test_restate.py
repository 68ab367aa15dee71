"""Statements turned round into questions and answers."""

from __future__ import annotations

import pytest

from continual_learning.strategies.methods.nested.restate import in_second_person, is_personal, restate, statements

ASKED = {
    "My dog is called Biko.": "What is my dog called?",
    "My name is Tobias.": "What is my name?",
    "I live in Aberdeen.": "Where do I live?",
    "I grew up in Halifax.": "Where did I grow up?",
    "I work as a beekeeper.": "What do I do for a living?",
    "I am a nurse.": "What is my job?",
    "I'm 34 years old.": "How old am I?",
    "I am from Cork.": "Where am I from?",
    "I am allergic to walnuts.": "What am I allergic to?",
    "I'm learning the cello.": "What am I learning?",
    "I was born in 1987.": "When was I born?",
    "I was born in Leeds.": "Where was I born?",
    "I have two cats.": "How many cats do I have?",
    "I have a cat called Juno.": "What is my cat called?",
    "I own a kayak.": "What do I own?",
    "My sister lives in Oslo.": "Where does my sister live?",
    "My grandmother taught geography.": "What did my grandmother teach?",
    "My flight leaves on Thursday.": "When does my flight leave?",
    "The spare key is under the mat.": "Where is the spare key?",
    "My dentist is Marit Solberg.": "Who is my dentist?",
    "My car is red.": "What colour is my car?",
    "My favourite colour is teal.": "What is my favourite colour?",
    "My locker code is 7716.": "What is my locker code?",
    "Our cottage was built by Anders.": "Who built our cottage?",
    "We are moving to Galway.": "What are we moving to?",
    "I bought a kayak in Oban.": "Where did I buy a kayak?",
    "My mother is 61 years old.": "How old is my mother?",
    "The name of my boat is Tern.": "What is my boat called?",
    "parse_config is defined in strategy.py.": "Where is parse_config defined?",
}


@pytest.mark.parametrize("statement", ASKED)
def test_a_statement_is_asked_as_a_person_would(statement: str) -> None:
    [found] = restate(statement)
    assert ASKED[statement] in found.questions
    assert len(set(found.questions)) == len(found.questions) and all(q.endswith("?") for q in found.questions)


def test_the_answer_is_said_to_the_one_who_told() -> None:
    assert restate("I live in Oslo with my dog.")[0].answer == "You live in Oslo with your dog."
    assert (
        in_second_person("I'm sure that it is mine, and we like it") == "You are sure that it is yours, and you like it"
    )
    assert in_second_person("parse_config is mine") == "parse_config is yours"


def test_clauses_are_statements_of_their_own_and_lead_ins_are_dropped() -> None:
    found = statements("By the way, my name is Tomas, and I live in Bergen. Well, so our boat is red; I like it a lot.")
    assert found == ["My name is Tomas", "I live in Bergen", "Our boat is red", "I like it a lot"]


@pytest.mark.parametrize("text", ["Where do I live?", "Tell me a joke about cats.", "Thanks a lot for that!", "Fine."])
def test_questions_and_requests_state_nothing(text: str) -> None:
    assert statements(text) == [] and restate(text) == []


def test_what_no_rule_fits_gives_nothing() -> None:
    assert restate("Rain all day long.") == [] and statements("Rain all day long.") == ["Rain all day long"]


def test_what_speaks_of_the_user() -> None:
    assert is_personal("What is my name?") and is_personal("Where do I live?") and is_personal("Our boat")
    assert not is_personal("What is the capital of Mexico?") and not is_personal("Which state of the US is largest?")
