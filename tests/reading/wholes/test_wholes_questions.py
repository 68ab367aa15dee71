"""What kind of answer a question asks for."""

import pytest

from continual_learning.reading.wholes.joined_facts import joined_facts
from continual_learning.reading.wholes.questions import may_ask_for_list, may_be_answered_by_list, question_kind
from continual_learning.reading.wholes.two_facts import split_facts
from continual_learning.types import Alternative, Answer, Origin, Source

KINDS = {
    "summary": [
        "Summarise the handover notes.",
        "summarize this",
        "Please sum up the minutes",
        "Can you give me a short summary of the contract?",
        "Give me an overview of the release notes.",
        "Write a brief summary.",
        "tl;dr",
        "What is the gist of the letter?",
        "What are the main points of the meeting?",
        "What are the key takeaways?",
        "I'd like a summary",
        "Could you briefly summarise this for me?",
    ],
    "about": [
        "What is this about?",
        "What's it about?",
        "what is this document about",
        "What are these notes about?",
        "What is the handover document all about?",
        "What does this page cover?",
        'What is "Handover notes" about?',
        "What kind of document is this?",
        "What is this?",
        "Tell me about this document.",
        "What is the purpose of this memo?",
    ],
    "list": [
        "List all the stalls.",
        "list the ingredients",
        "Please list every city that is mentioned.",
        "Name all members of the board.",
        "Give me a list of the speakers.",
        "Show me all open tasks",
        "Can you list the steps?",
        "Enumerate the requirements.",
    ],
    "count": [
        "How many people attended?",
        "how many eggs do I need",
        "In how many instalments is the fee paid?",
        "Count the steps.",
        "What is the total number of votes?",
    ],
    "yes_no": [
        "Is the diverter included?",
        "Are dogs allowed?",
        "Does it support Bluetooth?",
        "Did the board approve the budget?",
        "Can I freeze the soup?",
        "Has the meeting been moved?",
        "Will there be parking?",
        "Isn't the hall closed on Sundays?",
        "Do children have to pay?",
        "So, is it free?",
    ],
    "two_facts": [
        "Who moved the cluster and when was it moved?",
        "When and where does the club meet?",
        "How much does it cost, and who pays for it?",
        "Where is the key, and what is it for?",
        "How many hours a week does she want to work, and from when?",
        "On what date do we meet again, and at what time?",
    ],
    "span": [
        "Where did the staging cluster move?",
        "Who has the on-call phone after June?",
        "How much is left of the budget?",
        "What is the name of the insurer?",
        "Which command stops the writers?",
        "What is a comb jelly?",
        "What was the war about?",  # not about a text
        "Name the capital of France.",
        "Name one member of the board.",
        "List the person who signed.",
        "Can you tell me when the meeting is?",
        "Do you know who wrote it?",
        "Is it open or closed on Sundays?",
        "Would you say what it costs?",
        "How long does it take?",
        "What did he say about when it starts?",
        "What is known about who built it?",
        "Why is the sky blue?",
        "What is the summary function called?",
        "Who wrote the summary of the report?",
        "The meeting is moved.",
        "",
        "?",
        "What is the difference between what was planned and what was done?",
    ],
}


@pytest.mark.parametrize(("kind", "question"), [(kind, question) for kind, many in KINDS.items() for question in many])
def test_the_form_of_a_question_tells_its_kind(kind: str, question: str) -> None:
    assert question_kind(question) == kind


@pytest.mark.parametrize(
    ("question", "first", "second"),
    [
        ("Who moved the cluster and when was it moved?", "Who moved the cluster?", "When was the cluster moved?"),
        ("When and where does the club meet?", "When does the club meet?", "Where does the club meet?"),
        (
            "How many hours does she want to work, and from when?",
            "How many hours does she want to work?",
            "From when does she want to work?",
        ),
        (
            "How long is the warranty on the barrel, and how long on the tap?",
            "How long is the warranty on the barrel?",
            "How long is the warranty on the tap?",
        ),
        ("When does spin start, and how long does it last?", "When does spin start?", "How long does spin last?"),
        (
            "When does the site go live, and who freezes the content?",
            "When does the site go live?",
            "Who freezes the content?",
        ),
        (
            "Who signs the lease for the tenant and when does it end?",
            "Who signs the lease for the tenant?",
            "When does the lease end?",
        ),
        (
            "How much butter and how much flour do I need?",
            "How much butter do I need?",
            "How much flour do I need?",
        ),
        (
            "After how many hours do sessions expire, and since which version?",
            "After how many hours do sessions expire?",
            "Since which version do sessions expire?",
        ),
        (
            "When does the last bus leave, and where does it stop?",
            "When does the last bus leave?",
            "Where does the last bus stop?",
        ),
        ("Where do the classes go, and what does it cost?", "Where do the classes go?", "What does it cost?"),
        ("How do I install it and what does it need?", "How do I install it?", "What does it need?"),
        ("Who moved the cluster and when?", "Who moved the cluster?", "When was the cluster moved?"),
        ("When does the pool open and when the sauna?", "When does the pool open?", "When does the sauna open?"),
        ("When does the course start and end?", "When does the course start?", "When does the course end?"),
        (
            "What are the price and the weight of the bag?",
            "What is the price of the bag?",
            "What is the weight of the bag?",
        ),
        (
            "How long is the warranty on the frame and on the motor?",
            "How long is the warranty on the frame?",
            "How long is the warranty on the motor?",
        ),
        ("Is breakfast included, and when is it served?", "Is breakfast included?", "When is breakfast served?"),
        (
            "Who is the manager? And what is her phone number?",
            "Who is the manager?",
            "What is the manager's phone number?",
        ),
    ],
)
def test_two_facts_are_two_whole_questions(question: str, first: str, second: str) -> None:
    assert split_facts(question) == (first, second)


@pytest.mark.parametrize(
    "question",
    [
        "What are the pros and cons of the plan?",
        "What is the black and white flag?",
        "What is the difference between who pays and who profits?",
        "When do you eat fish and chips?",
    ],
)
def test_one_fact_is_not_split(question: str) -> None:
    assert split_facts(question) is None


def fact(question: str, text: str, *others: str, origin: Origin = "memory") -> Answer:
    """An answer of a reader with alternatives."""
    sources = (Source("d", "Notes", 1.0, text, 0, "On 4 March Priya Nair moved it, Tomasz Wren helped."),)
    alternatives = tuple(Alternative(other, 0.3) for other in others)
    return Answer(question, text, sources, origin=origin, confidence=0.5, alternatives=alternatives)


def test_two_answers_are_joined() -> None:
    who, when = fact("Who moved it?", "Priya Nair"), fact("When was it moved?", "4 March")
    both = joined_facts("Who moved it and when?", who, when)
    assert (both.text, both.confidence) == ("Priya Nair, On 4 March", 0.25)


def test_the_same_words_do_not_answer_both() -> None:
    first, second = fact("Who moved it?", "Priya Nair"), fact("Who helped?", "Priya Nair", "Priya", "Tomasz Wren")
    both = joined_facts("Who moved it and who helped?", first, second)
    assert both.text == "Priya Nair, Tomasz Wren"
    assert both.confidence == pytest.approx(0.5 * 0.3)


def test_what_is_not_said_of_two_facts_is_named() -> None:
    who, where = fact("Who moved it?", "Priya Nair"), fact("Where did it go?", "Not said.", origin="unknown")
    assert joined_facts("", who, where).text == "Priya Nair (not said: where did it go)"
    assert joined_facts("", where, where).origin == "unknown"


def test_what_may_ask_for_several_things() -> None:
    assert may_ask_for_list("Which colours does it come in?")
    assert may_ask_for_list("What are the ingredients?")
    assert not may_ask_for_list("Which street is it in?")
    assert not may_ask_for_list("What process is used?")
    assert may_be_answered_by_list("What do I need?")
    assert may_be_answered_by_list("Who attended the meeting?")
    assert not may_be_answered_by_list("What is the fee?")
