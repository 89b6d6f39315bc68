"""Whether a text is English: a small judgement by alphabet and function words, with no model to download."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_LATIN = re.compile(r"[a-zA-Zß-öø-ÿÀ-ÖØ-ÞŒœ]")
_LEAST_LATIN = 0.8  # of the letters
_LEAST_ENGLISH = 0.15  # of the words: function words are about two in five of a written text, fewer of a chat's
_JUDGED_WORDS = 200  # of a long text: more would not change the judgement

# Function words, and the short words by which chats get along. Words that are frequent in another of the languages
# below, too, are in neither list: in, die, was, me, an, no, on, so, as, a, to, he, do, am, all, also, we, at.
_ENGLISH = """
the and of is it you that this for are with be not have has had but what they your from my or if will can there which
when would could should how just been were our i i'm i'll i've i'd it's that's don't doesn't didn't can't won't isn't
wasn't aren't you're we're they're let's what's there's he's she's their them his her who why because about into than
then these those some any very really only out up its does did doing being having where while after before again more
most other too get got make need want know think see look try use work works working thanks thank please yes yeah yep
ok okay sure hello hi hey sorry great good nice cool awesome right well maybe anyone everybody everyone something
nothing anything someone never always still already here now new lol oh bad much many by
"""
_OTHERS = """
der das und ist nicht ich wir sie ein eine einen dem den mit auf für von zu im auch noch aber oder wenn wie ja nein
bitte danke schon sind haben habe wird werden kann ihr mir mich dich dir es bei nach heute
le la les des une et est pas je tu nous vous il elle ce cette dans sur pour avec qui que mais ou où oui non merci
bonjour suis sont fait très au aux du en ne bien c'est j'ai d'accord
el los las y por para con una del al se lo pero como más muy yo mi su está estoy hay gracias hola qué sí porque
o os um uma não é em com mas ele ela eu isso muito obrigado obrigada você vocês foi são da dos na nas
gli della di che è sono per questo ma più anche molto grazie ciao perché nel ho ha
het een niet van ik wij zijn met voor op maar ook nog wel dat dit naar er te aan als dank goed
och att det som är inte jag vi på med för ett av har till men kan så om vad tack og ikke jeg til vil
w nie się jest z że co jak ale tak czy po dla od już ve bir bu için çok ama var ben sen evet hayır
"""
ENGLISH_WORDS = frozenset(_ENGLISH.split())
OTHER_WORDS = frozenset(_OTHERS.split())


def language(text: str) -> str | None:
    """`en` for a text in English; None for another language, or where there are no words to judge by.

    English is a text in Latin letters in which English function words are at least 15 % of the words and more than
    those of the other languages together: German, French, Spanish, Portuguese, Italian, Dutch, Swedish, Norwegian,
    Polish, Turkish.
    """
    words = [word.lower().replace("’", "'") for word in _WORD.findall(text)][:_JUDGED_WORDS]
    letters = "".join(words)
    if not letters or len(_LATIN.findall(letters)) < _LEAST_LATIN * len(letters):
        return None
    english = sum(word in ENGLISH_WORDS for word in words)
    others = sum(word in OTHER_WORDS for word in words)
    return "en" if english > others and english >= _LEAST_ENGLISH * len(words) else None
