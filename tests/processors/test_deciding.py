"""The machine that decides about overlaps: fed with events and times, without a loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bargein.processors.deciding import (
    CONFIRM_S,
    LONGEST_HOLD_S,
    PATIENCE_S,
    READINGS_PATIENCE_S,
    TICK_S,
    Bot,
    Decider,
    Decision,
    Phase,
    Policy,
    Speech,
    Verdict,
)
from bargein.processors.policies import (
    Debounce,
    Grace,
    MinimumDuration,
    MinimumWords,
    MuteDuringTools,
    Policies,
    SpeechOnly,
)

HOLD, RELEASE, LISTEN, IGNORE, FULL, RESUME = (
    Verdict.HOLD,
    Verdict.RELEASE,
    Verdict.LISTEN,
    Verdict.IGNORE,
    Verdict.FULL,
    Verdict.RESUME,
)

SPEAKING = Bot(Phase.SPEAKING, spoken_s=3)
THINKING = Bot(Phase.THINKING)
IDLE = Bot()


class Talk:
    """A conversation: each call tells the machine of one thing and lets time pass up to it.

    The tables in the tests are (seconds, verdict) pairs.
    """

    def __init__(self, bot: Bot = SPEAKING, *front: Policy, resume_s: float | None = None) -> None:
        # The default policies, with the thresholds that the tables below count on.
        defaults = Policies()
        early = [p for p in defaults.speaking if not isinstance(p, MinimumWords | MinimumDuration)]
        speaking: tuple[Policy, ...] = (*early, MinimumWords(after_ms=500), MinimumDuration(1000))
        self.decider = Decider((*front, *speaking), (*front, *defaults.thinking), resume_s)
        self.decider.bot = bot
        self.decisions: list[tuple[float, Decision]] = []

    def at(self, time: float, event: Callable[[float], list[Decision]] | None = None) -> Talk:
        while (deadline := self.decider.deadline) is not None and deadline <= time:
            self._note(deadline, self.decider.tick(deadline))
        if event is not None:
            self._note(time, event(time))
        return self

    def _note(self, time: float, decisions: list[Decision]) -> None:
        for decision in decisions:
            self.decisions.append((time, decision))
            if decision.verdict is FULL:
                self.decider.bot = IDLE

    def speaks(self, start: float, seconds: float, words: str | None, *, words_s: float = 0.16) -> Talk:
        """Speech as the VAD and the recogniser tell of it."""
        decider = self.decider
        self.at(start + 0.064, lambda now: decider.speech_possible(now, start))
        self.at(start + 0.096, lambda now: decider.speech_began(now, start))
        self.at(start + seconds + 0.064, lambda now: decider.paused(now, start + seconds))
        if words and words_s <= 0.2:
            self.at(start + seconds + words_s, lambda now: decider.heard(now, words))
        self.at(start + seconds + 0.2, decider.speech_stopped)
        if words and words_s > 0.2:
            self.at(start + seconds + words_s, lambda now: decider.heard(now, words))
        return self.at(start + seconds + 0.6)

    @property
    def verdicts(self) -> list[tuple[float, Verdict]]:
        return [(round(time, 2), decision.verdict) for time, decision in self.decisions]

    @property
    def reasons(self) -> list[str]:
        return [decision.reason for _, decision in self.decisions]


def test_the_voice_is_held_at_the_first_sign_of_speech() -> None:
    talk = Talk()
    talk.at(1.064, lambda now: talk.decider.speech_possible(now, 1.0))
    assert talk.decisions == [(1.064, Decision(HOLD, "possible speech"))]
    assert talk.decider.onset == 1.0


def test_a_sign_that_nothing_confirms_is_released() -> None:
    talk = Talk()
    talk.at(1.0, lambda now: talk.decider.speech_possible(now, 0.936)).at(2)
    assert talk.verdicts == [
        (1.0, HOLD),
        (1.0 + CONFIRM_S, RELEASE),
        (1.0 + CONFIRM_S, IGNORE),
    ]
    assert talk.reasons[1:] == ["noise", "noise"]
    assert talk.decider.deadline is None


def test_a_soft_onset_that_flickers_is_held_once() -> None:
    talk = Talk()
    for time in (1.0, 1.1, 1.2):
        talk.at(time, lambda now: talk.decider.speech_possible(now, now - 0.064))
    talk.at(1.3, lambda now: talk.decider.speech_began(now, 1.2)).at(1.5)
    assert talk.verdicts == [(1.0, HOLD)]
    assert talk.decider.onset == pytest.approx(0.936)


@pytest.mark.parametrize(
    "words", ["Okay.", "Mm-hmm,", "Right!", "Yeah, right.", "Uh-huh", "Oh, okay. I see.", "Well,"]
)
def test_a_backchannel_is_released_and_does_not_count(words: str) -> None:
    talk = Talk().speaks(1.0, 0.45, words)
    assert talk.verdicts == [(1.06, HOLD), (1.61, RELEASE), (1.65, IGNORE)]  # released before the VAD's stop
    assert talk.reasons[1:] == ["backchannel", "backchannel"]
    assert not talk.decider.counts


@pytest.mark.parametrize("words", ["Stop.", "Wait!", "No.", "Okay, but why?", "Hold on"])
def test_short_words_that_are_no_backchannel_interrupt_when_they_are_known(words: str) -> None:
    talk = Talk().speaks(1.0, 0.4, words)
    assert talk.verdicts == [(1.06, HOLD), (1.6, FULL)]
    assert talk.decider.counts


def test_speech_that_goes_on_interrupts_before_its_words_are_known() -> None:
    talk = Talk().speaks(1.0, 2.5, "Tell me about Friday instead.")
    (_, hold), (time, full) = talk.verdicts
    assert (hold, full) == (HOLD, FULL)
    assert 2.0 <= time <= 2.0 + TICK_S


def test_words_of_a_partial_transcript_interrupt() -> None:
    talk = Talk()
    talk.at(1.1, lambda now: talk.decider.speech_began(now, 1.0))
    talk.at(1.2, lambda now: talk.decider.heard(now, "You"))
    talk.at(1.7)
    assert talk.verdicts == [(1.1, HOLD)]  # a guess at the first syllable
    talk.at(1.75, lambda now: talk.decider.heard(now, "What about"))
    assert talk.verdicts[1:] == [(1.75, FULL)]


def test_under_a_long_backchannel_the_bot_goes_on_and_what_follows_it_interrupts() -> None:
    talk = Talk()
    talk.at(1.1, lambda now: talk.decider.speech_began(now, 1.0))
    talk.at(1.3, lambda now: talk.decider.heard(now, "Yeah")).at(1.7)
    assert talk.verdicts == [(1.1, HOLD)]
    talk.at(1.8, lambda now: talk.decider.heard(now, "Yeah, okay")).at(2.4)
    assert talk.verdicts[1:] == [(1.8, RELEASE)]
    talk.at(2.45, lambda now: talk.decider.heard(now, "Yeah, okay, but listen"))
    assert talk.verdicts[2:] == [(2.45, FULL)]


def paused_after(words: str) -> Talk:
    """A stretch of 0.4 s from 1 s on, its words, and a second reading announced."""
    talk = Talk()
    talk.at(1.1, lambda now: talk.decider.speech_began(now, 1.0))
    talk.at(1.46, lambda now: talk.decider.paused(now, 1.4, readings=1))
    talk.at(1.5, lambda now: talk.decider.heard(now, words))
    return talk.at(1.6, talk.decider.speech_stopped)


def test_a_second_reading_is_waited_for_and_can_make_a_hum_of_a_word() -> None:
    talk = paused_after("No.").at(1.65)
    assert talk.verdicts == [(1.1, HOLD)]
    talk.at(1.7, lambda now: talk.decider.read_again(now, "Mm-hmm"))
    assert talk.verdicts[1:] == [(1.7, RELEASE), (1.7, IGNORE)]


def test_a_second_reading_that_hears_a_word_too_interrupts() -> None:
    talk = paused_after("Louder.")
    talk.at(1.7, lambda now: talk.decider.read_again(now, "Later."))
    assert talk.verdicts == [(1.1, HOLD), (1.7, FULL)]


def test_no_second_reading_is_waited_for_when_the_first_is_a_backchannel() -> None:
    assert paused_after("Okay.").verdicts == [(1.1, HOLD), (1.5, RELEASE)]


def test_a_second_reading_that_does_not_come_is_not_waited_for_for_long() -> None:
    talk = paused_after("No.").at(3)
    assert [verdict for _, verdict in talk.verdicts] == [HOLD, FULL]
    assert talk.verdicts[1][0] == pytest.approx(1.4 + READINGS_PATIENCE_S, abs=TICK_S)


def test_a_second_reading_of_what_went_on_is_none() -> None:
    talk = Talk()
    decider = talk.decider
    talk.at(1.1, lambda now: decider.speech_began(now, 1.0))
    talk.at(1.3, lambda now: decider.paused(now, 1.24, readings=1)).at(1.35, decider.resumed)
    talk.at(1.4, lambda now: decider.read_again(now, "Okay"))
    talk.at(1.7, lambda now: decider.heard(now, "Cancel"))
    assert talk.verdicts == [(1.1, HOLD), (1.7, FULL)]


def test_under_a_hum_the_bot_goes_on_before_it_has_ended() -> None:
    talk = Talk()
    talk.decider.change = 0.1
    talk.at(1.1, lambda now: talk.decider.speech_began(now, 1.0)).at(1.4)
    assert [verdict for _, verdict in talk.verdicts] == [HOLD, RELEASE]
    assert talk.verdicts[1][0] <= 1.35 + TICK_S


def test_a_cough_that_the_vad_takes_for_speech_is_released() -> None:
    talk = Talk().speaks(1.0, 0.3, None)
    assert [verdict for _, verdict in talk.verdicts] == [HOLD, RELEASE, IGNORE]
    assert talk.verdicts[1][0] <= 1.364 + PATIENCE_S + TICK_S
    assert talk.reasons[-1] == "noise"


def test_a_recogniser_that_is_slow_does_not_keep_the_voice_held_and_is_heard_when_it_comes() -> None:
    talk = Talk().speaks(1.0, 0.3, "Stop.", words_s=2)
    assert [verdict for _, verdict in talk.verdicts] == [HOLD, RELEASE, IGNORE, FULL]
    assert talk.verdicts[1][0] <= 1.364 + PATIENCE_S + TICK_S
    assert talk.verdicts[3][0] == 3.3


def test_a_pause_inside_the_speech_is_no_end() -> None:
    talk = Talk()
    decider = talk.decider
    talk.at(1.1, lambda now: decider.speech_began(now, 1.0)).at(
        1.3, lambda now: decider.paused(now, 1.24)
    ).at(1.45, decider.resumed)
    talk.at(2.05)
    assert [verdict for _, verdict in talk.verdicts] == [HOLD, FULL]


def test_nothing_is_held_or_interrupted_while_the_bot_is_idle() -> None:
    talk = Talk(IDLE).speaks(1.0, 3, "Hello there.")
    assert talk.verdicts == [(1.06, LISTEN)]
    assert talk.decider.counts


def test_while_the_bot_thinks_speech_interrupts_sooner() -> None:
    talk = Talk(THINKING).speaks(1.0, 2, "And another thing.")
    (_, hold), (time, full) = talk.verdicts
    assert (hold, full) == (HOLD, FULL)
    assert time <= 1.5 + TICK_S


def test_the_bot_begins_to_speak_over_the_user_and_is_held() -> None:
    talk = Talk(IDLE)
    decider = talk.decider
    talk.at(1.1, lambda now: decider.speech_began(now, 1.0)).at(1.4)
    decider.bot = Bot(Phase.SPEAKING)
    talk.at(1.5, decider.bot_changed).at(2.5)
    assert [verdict for _, verdict in talk.verdicts] == [LISTEN, HOLD, FULL]


def test_speech_only_by_policy() -> None:
    talk = Talk()
    talk.decider = Decider([SpeechOnly(policy) for policy in Policies().speaking], [])
    talk.decider.bot = SPEAKING
    talk.speaks(1.0, 0.4, "Stop.")
    assert talk.verdicts == [(1.06, HOLD), (1.6, Verdict.SPEECH)]


def test_debounce_is_cancelled_when_the_user_stops_soon() -> None:
    talk = Talk(SPEAKING, Debounce(500)).speaks(1.0, 0.3, "Stop.")
    assert talk.reasons[1:] == ["debounce", "debounce"]
    talk = Talk(SPEAKING, Debounce(500)).speaks(1.0, 0.6, "Stop it.")
    assert talk.verdicts[-1][1] is FULL


def test_in_its_grace_the_reply_goes_on_and_speech_that_outlasts_it_interrupts() -> None:
    talk = Talk(Bot(Phase.SPEAKING, spoken_s=0.1), Grace(500)).speaks(1.0, 0.3, "Wait.")
    assert talk.verdicts == [(1.06, LISTEN)]
    talk = Talk(Bot(Phase.SPEAKING, spoken_s=0.1), Grace(500))
    talk.at(1.1, lambda now: talk.decider.speech_began(now, 1.0))
    talk.decider.bot = SPEAKING
    talk.at(2.1)
    assert [verdict for _, verdict in talk.verdicts] == [LISTEN, HOLD, FULL]


def test_speech_that_outlasts_a_mute_counts() -> None:
    muted = Bot(Phase.SPEAKING, tool_running=True)
    assert Talk(muted, MuteDuringTools()).speaks(1.0, 2, "Hello?").verdicts == [(3.2, IGNORE)]
    talk = Talk(muted, MuteDuringTools())
    talk.at(1.1, lambda now: talk.decider.speech_began(now, 1.0)).at(1.5)
    talk.decider.bot = SPEAKING
    talk.at(2.1)
    assert [verdict for _, verdict in talk.verdicts] == [HOLD, FULL]


def test_an_answer_at_the_end_of_a_question_counts() -> None:
    talk = Talk(Bot(Phase.SPEAKING, rest_s=0.5)).speaks(1.0, 0.4, "Yes.")
    assert talk.verdicts == [(1.06, HOLD), (1.6, RELEASE), (1.6, LISTEN)]


def test_after_a_false_alarm_the_bot_goes_on() -> None:
    talk = Talk(resume_s=1).speaks(1.0, 2, None).at(10)
    assert [verdict for _, verdict in talk.verdicts] == [HOLD, FULL, RESUME]
    assert talk.verdicts[-1][0] == pytest.approx(3 + PATIENCE_S + 1, abs=2 * TICK_S)


def test_words_or_new_speech_end_the_waiting_for_a_false_alarm() -> None:
    talk = Talk(resume_s=1).speaks(1.0, 2, None)
    talk.at(3.7, lambda now: talk.decider.heard(now, "Sorry")).at(10)
    assert all(verdict is not RESUME for _, verdict in talk.verdicts)
    talk = Talk(resume_s=1).speaks(1.0, 2, None).speaks(3.7, 0.5, "Sorry.").at(10)
    assert all(verdict is not RESUME for _, verdict in talk.verdicts)
    talk = Talk(resume_s=1).speaks(1.0, 2, "Hello?").at(10)
    assert all(verdict is not RESUME for _, verdict in talk.verdicts)


def test_a_noise_delays_the_going_on_and_does_not_prevent_it() -> None:
    talk = Talk(resume_s=1).speaks(1.0, 2, None)
    talk.at(4.15, lambda now: talk.decider.speech_possible(now, 4.1)).at(10)
    assert talk.verdicts[-1][1] is RESUME


def test_what_a_late_recogniser_says_is_judged() -> None:
    talk = Talk().speaks(1.0, 0.4, None)
    talk.at(2.0, lambda now: talk.decider.heard(now, "Stop."))
    assert talk.verdicts[-1] == (2.0, FULL)


def test_an_interruption_by_somebody_else_ends_the_hold() -> None:
    talk = Talk()
    talk.at(1.1, lambda now: talk.decider.speech_began(now, 1.0))
    talk.decider.interrupted()
    assert not talk.decider.held
    talk.decider.bot = IDLE
    talk.at(1.11, talk.decider.bot_changed)
    assert talk.verdicts == [(1.1, HOLD), (1.11, LISTEN)]


def test_no_policies_no_vad_no_recogniser_and_still_not_held_for_ever() -> None:
    decider = Decider([], [])
    decider.bot = SPEAKING
    decider.speech_began(1.0, 0.9)
    talk = Talk()
    talk.decider = decider
    talk.at(60)
    assert [verdict for _, verdict in talk.verdicts] == [RELEASE, LISTEN]
    assert talk.decisions[0][0] == pytest.approx(1 + LONGEST_HOLD_S, abs=2 * TICK_S)
    assert not decider.held


def test_time_does_not_go_back() -> None:
    decider = Decider([], [])
    decider.speech_possible(2.0, 1.9)
    with pytest.raises(ValueError, match="time goes back"):
        decider.tick(1.0)


# Properties ----------------------------------------------------------------------------------------

EVENTS = st.sampled_from(
    [
        *("possible", "began", "paused", "resumed", "stopped", "heard", "announced", "again"),
        *("tick", "changed", "interrupted"),
    ]
)
BOTS = st.builds(
    Bot,
    phase=st.sampled_from(Phase),
    spoken_s=st.floats(0, 5),
    rest_s=st.none() | st.floats(0, 3),
    critical=st.booleans(),
    tool_running=st.booleans(),
    replies=st.integers(0, 2),
)
SCRIPTS = st.lists(
    st.tuples(st.floats(0, 1.5), EVENTS, BOTS, st.sampled_from(["okay", "stop", "mm-hmm yes", ""])),
    max_size=40,
)


def play(script: list[tuple[float, str, Bot, str]]) -> list[tuple[str, float, Decision | None]]:
    """Events and decisions in order, with 30 s of nothing at the end."""
    policies = Policies()
    decider = Decider(policies.speaking, policies.thinking, resume_s=1)
    log: list[tuple[str, float, Decision | None]] = []
    now = 0.0

    def tick_until(time: float) -> None:
        while (deadline := decider.deadline) is not None and deadline <= time:
            log.extend(("tick", deadline, decision) for decision in decider.tick(deadline))

    for gap, event, bot, words in script:
        now += gap
        tick_until(now)
        decider.bot = bot
        match event:
            case "possible":
                decisions = decider.speech_possible(now, now - 0.064)
            case "began":
                decisions = decider.speech_began(now, now - 0.096)
            case "paused":
                decisions = decider.paused(now, now - 0.064)
            case "announced":
                decisions = decider.paused(now, now - 0.064, readings=2)
            case "again":
                decisions = decider.read_again(now, words)
            case "resumed":
                decisions = decider.resumed(now)
            case "stopped":
                decisions = decider.speech_stopped(now)
            case "heard":
                decisions = decider.heard(now, words)
            case "changed":
                decisions = decider.bot_changed(now)
            case "interrupted":
                log.append(("interrupted", now, None))
                decider.interrupted()
                decisions = []
            case _:
                decisions = decider.tick(now)
        log.extend((event, now, decision) for decision in decisions)
    tick_until(now + 30)
    assert not decider.held
    return log


@settings(deadline=None)
@given(SCRIPTS)
def test_every_hold_is_followed_by_exactly_one_release_or_interruption(
    script: list[tuple[float, str, Bot, str]],
) -> None:
    held = False
    for event, _, decision in play(script):
        if decision is None:
            held = False
        elif decision.verdict is HOLD:
            assert not held
            held = True
        elif decision.verdict is RELEASE:
            assert held
            held = False
        elif decision.verdict in (FULL, Verdict.SPEECH):
            held = False
        else:
            assert not held, event
    assert not held


@settings(deadline=None)
@given(SCRIPTS)
def test_no_hold_lasts_longer_than_its_limit(script: list[tuple[float, str, Bot, str]]) -> None:
    since: float | None = None
    for _, time, decision in play(script):
        if since is not None:
            assert time - since <= LONGEST_HOLD_S + TICK_S + 1e-6
        since = time if decision is not None and decision.verdict is HOLD else None


@settings(deadline=None)
@given(SCRIPTS)
def test_the_same_events_lead_to_the_same_decisions(script: list[tuple[float, str, Bot, str]]) -> None:
    assert play(script) == play(script)


def test_a_policy_is_any_function() -> None:
    def never(speech: Speech, bot: Bot) -> Decision | None:
        return Decision(IGNORE, "never")

    talk = Talk(SPEAKING, never).speaks(1.0, 3, "Stop stop stop!")
    assert talk.verdicts == [(4.2, IGNORE)]
    assert talk.reasons == ["never"]
