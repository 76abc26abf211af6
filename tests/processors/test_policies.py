"""Each policy by itself: what is known of one moment in, one opinion or none out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bargein.pipeline import Reason
from bargein.processors.backchannels import BACKCHANNELS, consists_of, normalized
from bargein.processors.deciding import Bot, Decision, Phase, Policy, Speech, Verdict
from bargein.processors.policies import (
    Backchannel,
    BackchannelWords,
    Background,
    Critical,
    Debounce,
    Grace,
    Hum,
    MinimumDuration,
    MinimumWords,
    MuteDuringTools,
    MuteUntilFirstReplyEnds,
    Noise,
    Policies,
    ShortRest,
    SpeechOnly,
)

BOT = Bot(Phase.SPEAKING, spoken_s=3, rest_s=4, replies=1)
FULL, HOLD, LISTEN, IGNORE = Verdict.FULL, Verdict.HOLD, Verdict.LISTEN, Verdict.IGNORE


def said(words: str, seconds: float = 0.4) -> Speech:
    """Speech that is over."""
    return Speech(seconds, silent_s=0.2, confirmed=True, ended=True, words=words, words_s=seconds)


def saying(words: str, seconds: float = 0.4) -> Speech:
    """Speech that goes on."""
    return Speech(seconds, confirmed=True, words=words, words_s=seconds)


@pytest.mark.parametrize(
    ("policy", "speech", "bot", "verdict"),
    [
        (MinimumDuration(1000), saying("", 0.99), BOT, None),
        (MinimumDuration(1000), saying("", 1.0), BOT, FULL),
        (MinimumDuration(50), Speech(0.07), BOT, None),  # the VAD is not sure yet
        (Noise(240), said("you know", 0.2), BOT, IGNORE),
        (Noise(240), saying("you know", 0.2), BOT, None),
        (Noise(240), said("no", 0.24), BOT, None),
        (MinimumWords(), said("stop"), BOT, FULL),
        (MinimumWords(), said(""), BOT, None),
        (MinimumWords(2), said("stop"), BOT, None),
        (MinimumWords(2), said("stop it"), BOT, FULL),
        (MinimumWords(after_ms=500), saying("you", 0.4), BOT, None),
        (MinimumWords(after_ms=500), saying("what about", 0.6), BOT, FULL),
        (MinimumWords(after_ms=500), Speech(0.9, words="you", words_s=0.1), BOT, None),
        (Backchannel(), said("okay"), BOT, IGNORE),
        (Backchannel(), saying("okay"), BOT, HOLD),
        (Backchannel(certain_ms=500), saying("okay", 0.6), BOT, IGNORE),
        (Backchannel(certain_ms=500), Speech(0.9, words="okay", words_s=0.4), BOT, HOLD),
        (Backchannel(certain_ms=500), Speech(0.4, silent_s=0.1, words="okay", words_s=0.4), BOT, IGNORE),
        (Backchannel(certain_ms=500), Speech(0.4, silent_s=0.1, words="okay", words_s=0.1), BOT, HOLD),
        (Backchannel(), saying("okay", 0.6), Bot(Phase.SPEAKING, rest_s=1.4), HOLD),  # it may be an answer
        (Backchannel(), saying("okay but wait", 0.6), BOT, None),
        (Backchannel(), Speech(0.4, words="no", change=0.1), BOT, IGNORE),
        (Backchannel(), Speech(0.4, change=0.1), BOT, IGNORE),
        (Backchannel(), Speech(0.4, words="no", change=0.3), BOT, None),
        (Backchannel(), Speech(1.6, change=0.1), BOT, None),
        (Backchannel(), replace(said("no"), change=0.1), Bot(Phase.SPEAKING, rest_s=0.6), LISTEN),
        (Backchannel(is_hum=lambda speech: False), Speech(0.4, words="no", change=0.1), BOT, None),
        (Backchannel(), said("okay but wait"), BOT, None),
        (Backchannel(), said(""), BOT, None),
        (Backchannel(longest_ms=1500), said("yeah yeah yeah okay right", 1.6), BOT, None),
        (Backchannel(answer_s=0.7), said("yes"), Bot(Phase.SPEAKING, rest_s=0.6), LISTEN),
        (Backchannel(answer_s=0.7), said("yes"), Bot(Phase.SPEAKING, rest_s=None), IGNORE),
        (Backchannel(lambda speech: speech.words == "jawohl"), said("jawohl"), BOT, IGNORE),
        (Background(12), Speech(0.4, level_db=-13), BOT, IGNORE),
        (Background(12), Speech(0.4, level_db=-11), BOT, None),
        (Background(12, after_ms=300), Speech(0.2, level_db=-30), BOT, None),
        (Background(), Speech(0.4, level_db=None), BOT, None),
        (Debounce(500), saying("stop", 0.49), BOT, HOLD),
        (Debounce(500), said("stop", 0.49), BOT, IGNORE),
        (Debounce(500), saying("stop", 0.5), BOT, None),
        (Critical(), saying("stop"), Bot(Phase.SPEAKING, critical=True), LISTEN),
        (Critical(), saying("stop"), BOT, None),
        (ShortRest(300), saying("stop"), Bot(Phase.SPEAKING, rest_s=0.3), LISTEN),
        (ShortRest(300), saying("stop"), Bot(Phase.SPEAKING, rest_s=0.31), None),
        (ShortRest(300), saying("stop"), Bot(Phase.SPEAKING, rest_s=None), None),
        (Grace(500), saying("stop"), Bot(Phase.SPEAKING, spoken_s=0.4), LISTEN),
        (Grace(500), saying("stop"), BOT, None),
        (MuteUntilFirstReplyEnds(), said("stop"), Bot(Phase.SPEAKING, replies=0), IGNORE),
        (MuteUntilFirstReplyEnds(), said("stop"), BOT, None),
        (MuteDuringTools(), said("stop"), Bot(Phase.THINKING, tool_running=True), IGNORE),
        (MuteDuringTools(), said("stop"), BOT, None),
        (SpeechOnly(MinimumWords()), said("stop"), BOT, Verdict.SPEECH),
        (SpeechOnly(MinimumWords()), said(""), BOT, None),
        (SpeechOnly(Backchannel()), said("okay"), BOT, IGNORE),
    ],
)
def test_policy(policy: Policy, speech: Speech, bot: Bot, verdict: Verdict | None) -> None:
    opinion = policy(speech, bot)
    assert (opinion.verdict if opinion else None) == verdict


def test_an_interruption_says_that_the_user_speaks() -> None:
    for policy in (MinimumWords(), MinimumDuration(100), SpeechOnly(MinimumWords())):
        opinion = policy(said("stop"), BOT)
        assert isinstance(opinion, Decision)
        assert opinion.reason == Reason.USER_SPEAKING


@pytest.mark.parametrize(
    "words",
    [
        *(
            "mm-hmm",
            "Mm-hmm,",
            "Mhm.",
            "Uh-huh.",
            "OKAY!",
            "okay okay okay",
            "Yeah, right.",
            "I see.",
            "Hmmmmm",
        ),
        *("Yeaaah", "Oh, okay. Got it!", "That’s right"),  # noqa: RUF001
    ],
)
def test_backchannels(words: str) -> None:
    assert BackchannelWords()(said(words))
    assert BackchannelWords()(said(words, 1.4))


@pytest.mark.parametrize(
    "words", ["stop", "no", "wait", "hello", "okay stop", "right but", "what", "", "...", "help"]
)
def test_no_backchannels(words: str) -> None:
    assert not BackchannelWords()(said(words, 0.8))


def test_what_a_hum_is_taken_for_counts_only_if_it_is_short_and_all() -> None:
    for words in ("You", "Well,", "But", "The."):
        assert BackchannelWords()(said(words, 0.4))
        assert not BackchannelWords()(said(words, 0.9))
        assert not BackchannelWords()(said(f"{words} Friday", 0.6))


def test_a_short_word_is_none_however_short_it_is() -> None:
    for words in ("Tuesday.", "Louder", "Paris", "Stop.", "What?", "No, no.", ""):
        assert not BackchannelWords()(said(words, 0.25))


def test_one_reading_of_several_is_enough() -> None:
    misheard = replace(said("You can."), again=("", "Mm-hmm"))
    assert BackchannelWords()(misheard)
    assert BackchannelWords()(replace(said("Mm-hmm"), again=("Thank you.",)))
    assert not BackchannelWords()(replace(said("Louder."), again=("Later.", "Lower")))
    assert not BackchannelWords()(replace(said("Well I never", 0.9), again=("Well",)))


def test_a_reading_that_objects_is_not_outvoted() -> None:
    assert not BackchannelWords()(replace(said("That's wrong."), again=("That's right.", "That's right.")))
    assert not BackchannelWords()(replace(said("That's right."), again=("That's right.", "That's wrong.")))


def test_a_hum_is_told_by_its_sound_when_there_was_enough_of_it_or_all() -> None:
    assert Hum(after_ms=350)(Speech(0.35, change=0.2))
    assert not Hum(after_ms=350)(Speech(0.34, change=0.2))
    assert Hum(after_ms=350)(Speech(0.2, silent_s=0.06, change=0.2))
    assert not Hum(below=0.25)(Speech(0.5, change=0.25))
    assert not Hum()(Speech(0.5, change=None))


def test_a_language_without_words_is_refused() -> None:
    with pytest.raises(KeyError):
        BackchannelWords("tlh")


def test_the_data_is_written_as_it_is_compared() -> None:
    for language in BACKCHANNELS.values():
        for phrase in language.phrases | language.mumbles:
            assert " ".join(normalized(phrase)) == phrase
            assert consists_of(phrase, frozenset({phrase}))


def test_the_defaults_end_every_long_speech_in_an_interruption() -> None:
    for policies in (Policies().speaking, Policies().thinking):
        opinions = [policy(saying("", 2), BOT) for policy in policies]
        assert [opinion for opinion in opinions if opinion] == [Decision(FULL, Reason.USER_SPEAKING)]
