// What was interrupted, and what did not interrupt: why, how fast, and what it spared.

import { add, inMs, wentOn, why } from "./words.js";

const LEVELS = { full: "Everything", speech: "Voice only" };

export class Interruptions {
  #panel;
  #list;
  #counts; // interruptions, sounds that did not interrupt, pieces of text that were not made
  #reports = new Map(); // the figures' lines of an answer's interruptions, by its id
  #figures = new Map(); // their figures, in the same order; either may come first

  constructor(panel) {
    this.#panel = panel;
    this.#list = panel.querySelector("ol");
    this.clear();
  }

  clear() {
    this.#list.replaceChildren();
    this.#reports.clear();
    this.#figures.clear();
    this.#counts = { cuts: 0, pauses: 0, saved: 0 };
    this.#summarize();
  }

  take({ type, data = {} }) {
    if (type === "metrics") {
      data.barge_in?.forEach((measured) => this.#measured(measured));
      data.pause?.forEach((pause) => this.#addPause(pause));
    } else if (type === "server-message" && data.type === "interruption" && data.response_id !== null) {
      this.#addCut(data);
    }
  }

  #addCut({ level, reason, response_id: id, heard, unheard, ms }) {
    const item = this.#add(`level ${level}`, LEVELS[level] ?? level, why(reason));
    push(this.#reports, id, add(item, "p", "figures", `decided after ${inMs(ms)}`));
    const words = add(item, "p", "words");
    if (heard.trim()) {
      add(words, "span", "dim", "Heard: ");
      words.append(`${heard.trim()} `);
    }
    if (unheard.trim()) {
      add(words, "span", "dim", heard.trim() ? "Not heard: " : "Nothing heard of: ");
      add(words, "s", "", unheard.trim());
    }
    if (!words.textContent) add(words, "span", "dim", "It had not begun to answer.");
    this.#counts.cuts++;
    this.#showFigures(id);
    this.#summarize();
  }

  #addPause({ reason, value, resumed }) {
    const item = this.#add("level on", resumed ? "Resumed" : "Went on", wentOn(reason));
    add(item, "p", "figures", `voice ${resumed ? "silent" : "held"} for ${inMs(1000 * value)}`);
    this.#counts.pauses++;
    this.#summarize();
  }

  #add(kind, what, reason) {
    const item = document.createElement("li");
    const head = add(item, "p", "head");
    add(head, "b", kind, what);
    add(head, "span", "what", reason);
    this.#list.prepend(item);
    return item;
  }

  #measured({ response_id: id, parts, saved_tokens: saved = 0 }) {
    push(this.#figures, id, { ...parts, saved });
    this.#counts.saved += saved;
    this.#showFigures(id);
    this.#summarize();
  }

  #showFigures(id) {
    const lines = this.#reports.get(id) ?? [];
    const figures = this.#figures.get(id) ?? [];
    for (const [index, { silence, decision, saved }] of figures.entries()) {
      if (!lines[index]) continue;
      lines[index].textContent = `silent after ${inMs(1000 * silence)}, decided after ${inMs(1000 * decision)}`;
      if (saved) lines[index].append(`, about ${some(saved, "token")} saved`);
    }
  }

  #summarize() {
    const { cuts, pauses, saved } = this.#counts;
    const told = [
      cuts && some(cuts, "interruption"),
      pauses && `${some(pauses, "sound")} that did not interrupt`,
      saved && `about ${some(saved, "token")} saved`,
    ].filter(Boolean);
    this.#panel.querySelector(".summary").textContent = told.length
      ? `${told.join(", ")}. The newest first; times count from your first sound, or from your click's arrival.`
      : "When you talk over the bot or press Stop, here stands why it stopped or went on, how fast, and what you heard of the answer.";
  }
}

function some(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function push(lists, key, value) {
  if (!lists.has(key)) lists.set(key, []);
  lists.get(key).push(value);
}
