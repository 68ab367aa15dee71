"""Questions in a document's own words, in the scripts of the world."""

from __future__ import annotations

import pytest

from continual_learning.retrieval import BM25Index, Relevance, TfidfIndex, terms
from continual_learning.retrieval.routing import Router, default_rarity, passage_key
from continual_learning.text.words import document_terms, words

# Title, text, a question in its words, and one about nothing in it.
TEXTS = {
    "Chinese": (
        "灯塔",
        "奥林灯塔建于1907年，由建筑师林海设计。它高四十二米，站在港口的北端。",
        "奥林灯塔是谁设计的？",
        "法国的首都是什么？",
    ),
    "Japanese": (
        "オーリン灯台",
        "オーリン灯台は1907年に建てられた。設計者は林海という建築家である。",
        "オーリン灯台の設計者は誰ですか？",
        "フランスの首都はどこですか？",
    ),
    "Korean": (
        "등대",
        "오를린 등대는 1907년에 세워졌다. 건축가 한지수가 설계했다.",
        "오를린 등대를 설계한 건축가는 누구인가요?",
        "프랑스의 수도는 어디인가요?",
    ),
    "Thai": (
        "ประภาคาร",
        "ประภาคารออร์ลินสร้างในปี 1907 โดยสถาปนิกชื่อวิลมา ทาร์น",
        "ประภาคารออร์ลินสร้างโดยสถาปนิกชื่ออะไร",
        "เมืองหลวงของฝรั่งเศสคืออะไร",
    ),
    "Russian": (
        "Маяк",
        "Маяк Орлина построен в 1907 году. Его спроектировал архитектор Иван Берг.",
        "Какой архитектор спроектировал маяк Орлина?",
        "Какая столица у Франции?",
    ),
    "Greek": (
        "Φάρος",
        "Ο φάρος του Ορλίν χτίστηκε το 1907. Τον σχεδίασε ο αρχιτέκτονας Νίκος Βάλης.",
        "Ποιος αρχιτέκτονας σχεδίασε τον ΦΑΡΟ του Ορλίν;",
        "Ποια είναι η πρωτεύουσα της Γαλλίας;",
    ),
    "Arabic": (
        "المنارة",
        "بُنِيَت منارة أورلين عام 1907. صممها المهندس حسن الطاهر.",
        "من المهندس الذي صممها منارة اورلين؟",
        "ما هي عاصمة فرنسا؟",
    ),
    "Hebrew": (
        "המגדלור",
        "מגדלור אורלין נבנה בשנת 1907. האדריכל דוד לביא תכנן אותו.",
        "איזה אדריכל תכנן את מגדלור אורלין?",
        "מה בירת צרפת?",
    ),
    "Hindi": (
        "प्रकाशस्तंभ",
        "ओरलिन प्रकाशस्तंभ 1907 में बनाया गया था। इसके वास्तुकार हरि मोहन थे।",
        "ओरलिन प्रकाशस्तंभ के वास्तुकार कौन थे?",
        "फ्रांस की राजधानी क्या है?",
    ),
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_question_in_the_texts_own_words_finds_it(language: str) -> None:
    _, _, question, other = TEXTS[language]
    keys = {(name, 0): frozenset(passage_key(title, text).tolist()) for name, (title, text, _, _) in TEXTS.items()}
    route = Router(default_rarity()).route(keys, question)
    assert route is not None and route[0] == (language, 0)
    assert Router(default_rarity()).route(keys, other) is None
    title, text, _, _ = TEXTS[language]
    assert Relevance.default()(question, f"{title}\n{text}") >= 0.5 > Relevance.default()(other, f"{title}\n{text}")
    for index in (BM25Index(), TfidfIndex()):
        for name, (title, text, _, _) in TEXTS.items():
            index.add((name, 0), f"{title}\n{text}")
        assert index.search(question, 3)[0].key == (language, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("法国的首都", ["法国", "首都"]),
        ("りんごを食べる", ["りん", "んご", "食"]),
        ("東京タワーは333m", ["東京", "タワ", "ワー", "333m"]),
        ("서울은", ["서울", "울은"]),
        ("हिन्दी में", ["हिन्दी"]),
        ("بُنِيَت في", ["بنيت"]),
        ("Он и она, ещё маяк", ["маяк"]),
        ("cafe\u0301s, o\ufb03ce, light\u00adhouse", ["café", "offic", "lighthous"]),
    ],
)
def test_terms_by_script(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_a_document_is_found_without_its_accents_and_by_one_character() -> None:
    assert document_terms("Beyoncé") == ["beyoncé", "beyonc"] and terms("Beyonce") == ["beyonc"]
    assert terms("Beyoncé") == ["beyoncé"], "a memory that was learned earlier holds this alone"
    assert {"灯塔", "灯", "塔"} == set(document_terms("灯塔")) and terms("塔") == ["塔"]
    assert document_terms("The café's mill") == ["café", "cafe", "mill"]
    assert Router(default_rarity()).route({("a", 0): frozenset()}, "Beyonce", titles={"a": "Beyoncé"}) is None


def test_words_of_a_text_stand_in_it() -> None:
    for _, text, question, _ in TEXTS.values():
        assert all(word in text for word in words(text)) and words(question)
