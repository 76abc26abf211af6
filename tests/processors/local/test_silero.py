import pytest

from bargein.processors.local import SileroVAD

from .conftest import recording

pytestmark = pytest.mark.local_models

CHUNK = 2 * SileroVAD.CHUNK_SAMPLES


def speech_share(vad: SileroVAD, pcm: bytes) -> float:
    chunks = [pcm[at : at + CHUNK] for at in range(0, len(pcm) - CHUNK + 1, CHUNK)]
    return sum(vad.probability(chunk) > 0.5 for chunk in chunks) / len(chunks)


def test_hears_speech(sentence: bytes) -> None:
    assert speech_share(SileroVAD(), sentence) > 0.8


@pytest.mark.parametrize("noise", ["car_horn.wav", "dog_bark.wav"])
def test_does_not_take_noise_for_speech(noise: str) -> None:
    assert speech_share(SileroVAD(), recording(noise)) == 0


def test_instances_have_a_state_of_their_own(sentence: bytes) -> None:
    alone = SileroVAD()
    expected = [alone.probability(sentence[at : at + CHUNK]) for at in range(0, 40 * CHUNK, CHUNK)]
    one, other = SileroVAD(), SileroVAD()
    heard = []
    for at in range(0, 40 * CHUNK, CHUNK):
        heard.append(one.probability(sentence[at : at + CHUNK]))
        other.probability(bytes(CHUNK))
    assert heard == expected


def test_reset_forgets_the_sound(sentence: bytes) -> None:
    vad = SileroVAD()
    first = [vad.probability(sentence[at : at + CHUNK]) for at in range(0, 20 * CHUNK, CHUNK)]
    vad.reset()
    assert [vad.probability(sentence[at : at + CHUNK]) for at in range(0, 20 * CHUNK, CHUNK)] == first


def test_rejects_a_chunk_of_another_length() -> None:
    with pytest.raises(ValueError, match="512 samples, not 160"):
        SileroVAD().probability(bytes(320))
