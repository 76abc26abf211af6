// Microphone level, from silence (-60 dBFS) to full scale.

const FLOOR_DB = -60;

export class Meter {
  #context = new AudioContext();
  #source;
  #analyser = this.#context.createAnalyser();
  #samples;
  #frame = 0;

  /** Calls `show(level)`, 0 to 1, at each animation frame until `close`. */
  constructor(stream, show) {
    this.#analyser.fftSize = 1024;
    this.#samples = new Float32Array(this.#analyser.fftSize);
    this.#source = this.#context.createMediaStreamSource(stream);
    this.#source.connect(this.#analyser);
    let level = 0;
    const draw = () => {
      this.#analyser.getFloatTimeDomainData(this.#samples);
      let sum = 0;
      for (const sample of this.#samples) sum += sample * sample;
      const db = 10 * Math.log10(sum / this.#samples.length + 1e-10);
      const now = Math.min(1, Math.max(0, 1 - db / FLOOR_DB));
      level = Math.max(now, level * 0.9);
      show(level);
      this.#frame = requestAnimationFrame(draw);
    };
    draw();
  }

  /** Calls `hear(power, ms)` for each few ms of sound until `close`. */
  async listen(hear) {
    await this.#context.audioWorklet.addModule(new URL("levels.js", import.meta.url));
    if (this.#context.state === "closed") return;
    const levels = new AudioWorkletNode(this.#context, "levels", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    levels.port.onmessage = ({ data: { power, ms } }) => hear(power, ms);
    this.#source.connect(levels);
  }

  close() {
    cancelAnimationFrame(this.#frame);
    this.#context.close();
  }
}
