// What happened when: makes bars of the messages that tell of beginnings and ends. `bargein trace` draws the
// same from a log.

import { inMs, wentOn, why } from "./words.js";

// What the user said for these reasons did not count.
const NOT_COUNTED = ["noise", "backchannel", "background", "muted", "debounce", "words", "no words in time"];

export class Timeline {
  #view;
  #now;
  #since = 0;
  #open = new Map(); // what goes on, by lane and id
  #user = null; // the last speech of the user
  #bot = null; // and of the bot
  #cuts = []; // the last interruptions, oldest first
  #latencies = []; // of interruptions that are not known yet
  #vad = false; // the server tells of all speech

  /** `view`: draws. `now`: the time in s on a clock that does not go back. */
  constructor(view, now = () => performance.now() / 1000) {
    this.#view = view;
    this.#now = now;
  }

  begin() {
    this.#since = this.#now();
    this.#open.clear();
    this.#user = this.#bot = null;
    this.#cuts = [];
    this.#latencies = [];
    this.#vad = false;
    this.#view.begin(() => this.#at());
  }

  /** The conversation is over: nothing goes on. */
  end() {
    for (const key of [...this.#open.keys()]) this.#close(key);
    this.#view.end();
  }

  take({ type, data = {} }) {
    const id = data.response_id;
    switch (type) {
      case "vad-user-started-speaking":
        this.#vad = true;
        return this.#userStarts(data.ago_ms / 1000);
      case "vad-user-stopped-speaking":
        return this.#close("you", this.#at() - data.ago_ms / 1000);
      case "user-started-speaking":
        return this.#vad || this.#userStarts(0);
      case "user-stopped-speaking":
        return this.#vad || this.#close("you");
      case "user-transcription":
        return data.final && this.#userSaid(data.text);
      case "user-input":
        return data.input_type === "chat" && this.#view.add(this.#point("you", "typed", data.text));
      case "bot-started-speaking":
        this.#bot = this.#begin("bot", { lane: "bot", id, text: "" });
        return this.#bot;
      case "bot-stopped-speaking":
        this.#close("held");
        return this.#close("bot");
      case "bot-tts-text":
        return this.#heard(data.text);
      case "bot-llm-started":
        return this.#begin(`model ${id}`, { lane: "model", id });
      case "bot-llm-stopped":
        return this.#close(`model ${id}`);
      case "llm-function-call-in-progress":
        return this.#begin(`tool ${data.tool_call_id}`, { lane: "tools", id, text: data.function_name ?? "tool" });
      case "llm-function-call-stopped":
        return this.#close(`tool ${data.tool_call_id}`, undefined, data.cancelled ? "cancelled" : "");
      case "metrics":
        return data.barge_in?.forEach((measured) => this.#measured(measured));
      case "server-message":
        return {
          hold: this.#hold,
          release: this.#release,
          resume: this.#resume,
          backchannel: this.#backchannel,
          interruption: this.#cut,
        }[data.type]?.call(this, data);
    }
  }

  #at() {
    return this.#now() - this.#since;
  }

  #begin(key, bar) {
    this.#close(key);
    const begun = { begin: this.#at(), end: null, note: "", ...bar };
    this.#open.set(key, begun);
    this.#view.add(begun);
    return begun;
  }

  #close(key, at = this.#at(), note = "") {
    const bar = this.#open.get(key);
    if (!bar) return;
    this.#open.delete(key);
    bar.end = Math.max(bar.begin, at);
    bar.note ||= note;
    this.#view.update(bar);
  }

  #point(lane, kind, text) {
    const at = this.#at();
    return { lane, kind, begin: at, end: at, text, note: "" };
  }

  #userStarts(ago) {
    this.#user = this.#begin("you", { lane: "you", text: "", begin: Math.max(0, this.#at() - ago) });
  }

  #userSaid(text, aside = false) {
    this.#user ??= this.#point("you", "", "");
    this.#user.text = `${this.#user.text} ${text}`.trim();
    this.#user.aside = aside;
    if (!aside) this.#user.note = "";
    this.#view.update(this.#user);
  }

  #backchannel({ text }) {
    this.#userSaid(text, true);
  }

  #heard(text) {
    if (!this.#bot) return;
    this.#bot.text += text;
    this.#view.update(this.#bot);
  }

  #hold() {
    if (this.#open.has("bot")) this.#begin("held", { lane: "held" });
  }

  #release({ reason }) {
    this.#close("held", undefined, reason ? `the voice went on: ${wentOn(reason)}` : "the voice went on");
    if (!this.#user || !NOT_COUNTED.includes(reason)) return;
    Object.assign(this.#user, { aside: true, label: reason, note: `did not interrupt: ${wentOn(reason)}` });
    this.#view.update(this.#user);
  }

  /** The last interruption came to nothing. */
  #resume({ reason }) {
    const bar = this.#cuts.at(-1);
    if (!bar) return;
    bar.note += `, the rest is said after all: ${wentOn(reason)}`;
    this.#view.update(bar);
  }

  #cut({ level, reason, response_id: id, cut, heard, unheard, ms }) {
    this.#close("held", undefined, "interrupted");
    if (id === null) return; // nothing was going on
    this.#close("bot", undefined, "cut");
    if (level === "full") for (const each of cut) this.#close(`model ${each}`, undefined, "interrupted");
    const bar = { ...this.#point("cut", level, why(reason)), id, heard, unheard, note: `decided after ${inMs(ms)}` };
    this.#cuts = [...this.#cuts.slice(-20), bar];
    this.#view.add(bar);
    this.#latencies.splice(0).forEach((measured) => this.#measured(measured));
  }

  /** Comes before or after what it is about. */
  #measured(measured) {
    const bar = this.#cuts.find((cut) => cut.id === measured.response_id && !cut.measured);
    if (!bar) return this.#latencies.push(measured);
    bar.measured = true;
    bar.note = `silent after ${inMs(1000 * measured.parts.silence)}, ${bar.note}`;
    this.#view.update(bar);
  }
}
