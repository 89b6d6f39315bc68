"""Sentences of which the generator composes chat messages, by mood and language."""

from __future__ import annotations

from collections.abc import Sequence

POSITIVE = (
    "Great work on the release, everybody.",
    "I love how fast the new dashboard is!",
    "Thanks a lot, that fixed my problem.",
    "The demo went really well, the customer is happy.",
    "Awesome, the tests are green again!",
    "That is a brilliant idea, let us do it.",
    "So glad this is finally working.",
    "You are the best, thank you for the help!",
    "Nice, this looks much better than before.",
    "Good news: the migration was a success.",
    "I really enjoyed the workshop today.",
    "Congratulations to the whole team!",
)
NEUTRAL = (
    "The meeting has been moved to three in the afternoon.",
    "Can you send me the link to the ticket?",
    "I will look at it after lunch.",
    "The build takes about ten minutes on this branch.",
    "We have two open pull requests at the moment.",
    "Which version are you on?",
    "The report is in the shared folder.",
    "It reads from the topic and writes to the table.",
    "Let me check the logs of the second node.",
    "There are four of us in the call.",
    "I have changed the column's name in the schema.",
    "The next release is planned for the end of the month.",
)
NEGATIVE = (
    "The site is down again, this is terrible.",
    "I hate this bug, it keeps crashing.",
    "The deploy failed and nobody knows why.",
    "This is really annoying, the login is broken.",
    "Customers are angry and the queue is a disaster.",
    "We lost data, this is a nightmare.",
    "Sorry, I made a bad mistake in the config.",
    "The alerts are useless and I am frustrated.",
    "What a horrible outage, everything is failing.",
    "I am worried that this gets worse.",
    "The performance is awful since the last update.",
    "It is a shame that the test was ignored, what a mess.",
)
OTHER_LANGUAGES = (
    "Das Treffen ist auf morgen verschoben, bitte sagt den anderen Bescheid.",
    "Ich habe den Fehler gefunden und die Änderung ist schon im Zweig.",
    "La reunión se ha movido a las tres de la tarde.",
    "No sé por qué falla la prueba, pero lo voy a mirar.",
    "Le rapport est dans le dossier partagé, merci de le lire.",
    "Je ne suis pas sûr que ce soit la bonne solution.",
    "A reunião foi adiada para amanhã, por favor avisem a equipe.",
    "会議は明日の三時に変更されました。",
    "Я посмотрю логи после обеда и напишу вам.",
)
SYMBOLS = ("👍", "🎉🎉", ":tada:", ":+1: :+1:", "😀", "❤️", "...", ":eyes:")
EMOJI = {"positive": (":tada:", "😀", ":heart:"), "neutral": (":eyes:", "🤔"), "negative": (":rage:", "😞", ":cry:")}
EMOTICONS = {"positive": ":)", "neutral": ":-)", "negative": ":("}
BY_MOOD = {"positive": POSITIVE, "neutral": NEUTRAL, "negative": NEGATIVE}
_LOG_LINE = "2026-01-01T00:00:00Z INFO worker-7 took 12 records from partition 3 of the topic\n"
PASTE = _LOG_LINE * 800  # 64 kB


def choose(items: Sequence[str], uniform: float) -> str:
    """The item at a share of the way through, for a number in [0, 1)."""
    return items[int(uniform * len(items))]
