"""Language and sentiment of texts, judged by people who wrote the expectations down first."""

from __future__ import annotations

import time

import pytest

from streaming_lakehouse.domains.messaging.language import language
from streaming_lakehouse.domains.messaging.sentiment import score_text


@pytest.mark.parametrize(
    "text",
    [
        "Where did you put the keys of the staging server?",
        "thanks, that helped",
        "nice!",
        "I don’t think we should merge this before Monday",
        "kubectl says the pod is pending, any idea why?",
        "The café's naïve façade was rebuilt by the architect.",
        "Could someone restart the broker and check that it is up",
    ],
)
def test_english_is_recognised(text: str) -> None:
    """Whole sentences and the short words of a chat."""
    assert language(text) == "en"


@pytest.mark.parametrize(
    "text",
    [
        "Wo hast du den Schlüssel für den Server hingelegt?",
        "Ich bin um drei da, das Update ist in der Cloud.",
        "Où as-tu mis la clé du serveur de test ?",
        "Je vais faire le déploiement cet après-midi",
        "¿Dónde has puesto la llave del servidor?",
        "No me gusta el plan, lo vemos mañana",
        "Onde você colocou a chave do servidor?",
        "Dove hai messo la chiave del server di prova?",
        "Waar heb je de sleutel van de server gelaten?",
        "Var har du lagt nyckeln till servern?",
        "Gdzie jest klucz do serwera, nie mogę go znaleźć",
        "Sunucunun anahtarını nereye koydun, çok acil bir durum",
        "Минутку, я проверю настройки сервера",
        "サーバーの鍵はどこですか",
        "服务器的钥匙在哪里",
        "أين وضعت مفتاح الخادم؟",
        "",
        "   ",
        "12:30 404",
        "👍🎉",
        ":)",
    ],
)
def test_other_languages_and_texts_without_words_are_not_english(text: str) -> None:
    """Near misses count: no, me, in, die and the like are words of several languages."""
    assert language(text) is None
    assert score_text(text) == (None, None)


def test_no_text_has_no_sentiment() -> None:
    """A delete has none."""
    assert score_text(None) == (None, None)


@pytest.mark.parametrize(
    ("text", "is_positive"),
    [
        ("VADER is smart, handsome, and funny.", True),
        ("This is not good at all, I am really disappointed", False),
        ("the build is done :slightly_smiling_face:", True),
        ("the build is done 😊", True),
        ("the build is done :(", False),
        ("the deploy is :rage:", False),
    ],
)
def test_sentiment_has_the_sign_a_reader_would_give_it(text: str, is_positive: bool) -> None:
    """Negation, emoji as characters and as Slack's codes, emoticons."""
    found = score_text(text)
    assert found.language == "en"
    assert found.compound is not None and (found.compound > 0.05) is is_positive and abs(found.compound) >= 0.05


def test_the_published_example_is_met() -> None:
    """VADER's README gives 0.8316 for this sentence."""
    assert score_text("VADER is smart, handsome, and funny.").compound == 0.8316


@pytest.mark.parametrize(
    "text", ["I will <@U0LOVE> you", "see <https://hate.example/kill> please", "it says `kill bad`"]
)
def test_mentions_links_and_code_have_no_mood(text: str) -> None:
    """They are names, not what somebody feels."""
    assert score_text(text).compound in (0.0, 0.3182)  # "please" is slightly positive


@pytest.mark.parametrize("text", ["but good " * 7_000, "`" * 65_536, "<" * 65_536, ":a" * 32_000, "😀" * 16_000])
def test_a_text_of_64_kb_takes_no_longer_than_a_second(text: str) -> None:
    """The worst cases of the markup's patterns and of VADER's quadratic search for `but`."""
    started = time.perf_counter()
    score_text(text)
    assert time.perf_counter() - started < 1
