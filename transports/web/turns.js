// How long the user waited for each answer, and what for.

import { add, inMs } from "./words.js";

const PARTS = {
  endpointing: "until the turn was taken as over",
  transcription: "until the question was put to the model",
  model: "until its first word",
  sentence: "until its first sentence",
  voice: "until the first sound of it was made",
  output: "until that was played",
};

export class Turns {
  #panel;
  #list;
  #waits = [];
  #asked = ""; // as put to the model last
  #question = "";
  #questions = new Map(); // by the id of the answer

  constructor(panel) {
    this.#panel = panel;
    this.#list = panel.querySelector("ol");
    for (const [part, about] of Object.entries(PARTS)) {
      const item = add(panel.querySelector(".parts"), "li", part);
      add(item, "b", "", part);
      item.append(` ${about}`);
    }
    this.clear();
  }

  clear() {
    this.#list.replaceChildren();
    this.#questions.clear();
    this.#waits = [];
    this.#asked = this.#question = "";
    this.#summarize();
  }

  take({ type, data = {} }) {
    if (type === "user-llm-text") this.#ask(data.text);
    else if (type === "bot-llm-started") this.#questions.set(data.response_id, this.#question);
    else if (type === "metrics") data.stop_to_first_audio?.forEach((measured) => this.#add(measured));
  }

  /** A question grows while no answer to it is heard; what is new of it tells the turn. */
  #ask(text) {
    const grown = text.length > this.#asked.length && text.startsWith(`${this.#asked} `);
    this.#question = this.#asked && grown ? `… ${text.slice(this.#asked.length + 1)}` : text;
    this.#asked = text;
  }

  #add({ value, parts, response_id: id }) {
    this.#waits.push(1000 * value);
    const item = document.createElement("li");
    const head = add(item, "p", "head");
    add(head, "span", "what", this.#questions.get(id) || `Answer ${id}`);
    add(head, "b", "", inMs(1000 * value));
    const bar = add(item, "div", "stack");
    bar.ariaHidden = "true";
    bar.style.setProperty("--wait", String(value));
    const told = add(item, "ul", "told");
    for (const [part, seconds] of Object.entries(parts)) {
      add(bar, "span", part).style.setProperty("flex-grow", String(1000 * seconds));
      add(told, "li", part, `${part} ${Math.round(1000 * seconds)}`);
    }
    this.#list.style.setProperty("--longest", String(Math.max(...this.#waits) / 1000));
    this.#list.prepend(item);
    this.#summarize();
  }

  #summarize() {
    const { length } = this.#waits;
    const middle = this.#waits.toSorted((a, b) => a - b)[Math.floor((length - 1) / 2)];
    this.#panel.querySelector(".summary").textContent = length
      ? `Median ${inMs(middle)} from your last sound to the bot's first, of ${length} ${length > 1 ? "turns" : "turn"}.`
      : "When the bot has answered, here stands how long you waited for its first sound, and what for.";
    this.#panel.querySelector(".parts").hidden = !length;
  }
}
