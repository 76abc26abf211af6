// What was interrupted, why, and how fast.

import { add, inMs, why } from "./words.js";

const LEVELS = { full: "Everything", speech: "Voice only" };

export class Interruptions {
  #panel;
  #list;
  #reports = new Map(); // the latency lines of an answer's interruptions, by its id
  #latencies = new Map(); // their latencies, in the same order; either may come first

  constructor(panel) {
    this.#panel = panel;
    this.#list = panel.querySelector("ol");
    this.clear();
  }

  clear() {
    this.#list.replaceChildren();
    this.#reports.clear();
    this.#latencies.clear();
    this.#summarize();
  }

  take({ type, data = {} }) {
    if (type === "metrics") {
      for (const { response_id: id, parts } of data.barge_in ?? []) {
        push(this.#latencies, id, parts);
        this.#showLatencies(id);
      }
    } else if (type === "server-message" && data.type === "interruption" && data.response_id !== null) {
      this.#add(data);
    }
  }

  #add({ level, reason, response_id: id, heard, unheard, ms }) {
    const item = document.createElement("li");
    const head = add(item, "p", "head");
    add(head, "b", `level ${level}`, LEVELS[level] ?? level);
    add(head, "span", "what", why(reason));
    push(this.#reports, id, add(item, "p", "latency", `decided after ${inMs(ms)}`));
    const words = add(item, "p", "words");
    if (heard.trim()) {
      add(words, "span", "dim", "Heard: ");
      words.append(`${heard.trim()} `);
    }
    if (unheard.trim()) {
      add(words, "span", "dim", heard.trim() ? "Not heard: " : "Nothing heard of: ");
      add(words, "s", "", unheard.trim());
    }
    this.#list.prepend(item);
    this.#showLatencies(id);
    this.#summarize();
  }

  #showLatencies(id) {
    const lines = this.#reports.get(id) ?? [];
    const latencies = this.#latencies.get(id) ?? [];
    for (const [index, { silence, decision }] of latencies.entries()) {
      if (lines[index]) lines[index].textContent = `silent after ${inMs(1000 * silence)}, decided after ${inMs(1000 * decision)}`;
    }
  }

  #summarize() {
    const { length } = this.#list.children;
    this.#panel.querySelector(".summary").textContent = length
      ? `${length} ${length > 1 ? "interruptions" : "interruption"}, the newest first. Times count from your first sound, or from your click's arrival.`
      : "When you talk over the bot or press Stop, here stands why it stopped, how fast, and what you heard of the answer.";
  }
}

function push(lists, key, value) {
  if (!lists.has(key)) lists.set(key, []);
  lists.get(key).push(value);
}
