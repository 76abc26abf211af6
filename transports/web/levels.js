// On the audio thread: how loud the microphone is, each 5 ms or a little more.

const BLOCK_S = 0.005;

class Levels extends AudioWorkletProcessor {
  #sum = 0;
  #count = 0;

  process([[samples]]) {
    if (samples) for (const sample of samples) this.#sum += sample * sample;
    this.#count += samples?.length ?? 128;
    if (this.#count >= BLOCK_S * sampleRate) {
      this.port.postMessage({ power: this.#sum / this.#count, ms: (1000 * this.#count) / sampleRate });
      this.#sum = this.#count = 0;
    }
    return true;
  }
}

registerProcessor("levels", Levels);
