// Lowers the bot's voice as soon as the microphone is loud, while the server decides whether it must stop.
// Everything runs on the microphone's audio blocks, so that no timer can be late.

const DUCKED = 0.2; // volume: soft enough to talk over, loud enough to follow
const DOWN_MS = 15; // from full volume to DUCKED: too short for a syllable, too long for a click
const UP_MS = 120;
const SURE_MS = 20; // a sound shorter than this is a click
const QUIET_MS = 300; // a pause within speech is shorter
const LONGEST_MS = 1000; // a server that has not said a word by then heard no speech
const MARGIN_DB = 10; // speech is that much louder than what is there anyway
const FLOOR_DB = -55; // dBFS: nothing below it is a sound
const ROOM_RISES = 0.005; // dB per ms: speech must not pass for the room's noise
const ECHO_FALLS = 0.001; // dB per ms
const ECHO_MS = 200; // how fast the echo's level is followed upwards: slower than speech begins
const LESSON_DB = 6; // what a duck that came to nothing adds to the echo
const LOUDEST_ECHO_DB = -20; // dBFS: what is 10 dB louder is the user, whatever was learnt

export class Duck {
  #audio;
  #power = 0; // of the last block
  #room = FLOOR_DB; // what is heard while nobody talks
  #echo = FLOOR_DB; // what is heard while only the bot talks
  #loud = 0; // ms without a quiet block
  #quiet = 0; // ms without a loud block
  #since = 0; // ms since it ducked
  #down = false;
  #held = false; // the server holds the voice
  #spent = false; // this sound has been judged: it ducks no more
  #speaking = false;

  /** `audio`: the element that plays the bot. */
  constructor(audio) {
    this.#audio = audio;
    audio.volume = 1;
  }

  /** Whether the bot's voice sounds: only then it is ducked. */
  set speaking(speaking) {
    this.#speaking = speaking;
    if (!speaking) this.#down = this.#held = false;
  }

  /** The next block of the microphone: its mean square, 1 is full scale, and its length. */
  hear(power, ms) {
    const level = Math.max(FLOOR_DB, 10 * Math.log10((power + this.#power) / 2 + 1e-10));
    this.#power = power;
    const loud = level > Math.max(this.#room, this.#echo) + MARGIN_DB;
    this.#loud = loud ? this.#loud + ms : 0;
    this.#quiet = loud ? 0 : this.#quiet + ms;
    this.#learn(level, loud, ms);
    if (this.#quiet >= QUIET_MS) this.#spent = false;
    if (this.#down) this.#wait(ms);
    else if (this.#speaking && this.#loud >= SURE_MS && !this.#spent) this.#begin();
    this.#ramp(ms);
  }

  /** The server holds the voice: it hears speech, too. */
  hold() {
    this.#held = true;
    if (!this.#down) this.#begin();
  }

  /** The server lets the voice go on, whatever this sound is. */
  release() {
    this.#down = this.#held = false;
    this.#spent = true;
  }

  #begin() {
    this.#down = true;
    this.#since = 0;
  }

  #wait(ms) {
    this.#since += ms;
    if (this.#held || (this.#quiet < QUIET_MS && this.#since < LONGEST_MS)) return;
    // The server took no notice: it was the bot's own echo, or a noise.
    this.#echo = Math.min(this.#echo + LESSON_DB, LOUDEST_ECHO_DB);
    this.release();
  }

  #learn(level, loud, ms) {
    const above = level - this.#room;
    this.#room += above < 0 ? above * Math.min(1, ms / 100) : Math.min(above, ROOM_RISES * ms);
    if (!this.#speaking || loud) return;
    const echo = level - this.#echo;
    const change = echo > 0 ? (echo * ms) / ECHO_MS : Math.max(echo, -ECHO_FALLS * ms);
    this.#echo = Math.min(this.#echo + change, LOUDEST_ECHO_DB);
  }

  /** Where the volume cannot be set (iOS), the server's hold does it alone. */
  #ramp(ms) {
    const { volume } = this.#audio;
    const next = this.#down
      ? Math.max(DUCKED, volume - ((1 - DUCKED) * ms) / DOWN_MS)
      : Math.min(1, volume + ((1 - DUCKED) * ms) / UP_MS);
    if (next !== volume) this.#audio.volume = next;
  }
}
