// The interruption policies of the running session, to be tried out. The server says what there is, and checks.

import { add, spoken } from "./words.js";

const UNITS = { ms: "ms", s: "s", db: "dB" };
const PHASES = { speaking: "While the bot speaks", thinking: "While it makes an answer" };

export class PolicyForm {
  #form;
  #fields;
  #told;
  #request = null; // asks the server; null while there is none

  constructor(form) {
    this.#form = form;
    this.#fields = form.querySelector(".fields");
    this.#told = form.querySelector(".told");
    form.onsubmit = (event) => event.preventDefault();
    form.onchange = ({ target }) => this.#change(target);
    form.querySelector(".reset").onclick = () => this.#ask("reset-policies", {}, "Back to the bot's own.");
    this.close();
  }

  /** A session begins; `request(type, data)` resolves to the response. */
  async open(request) {
    this.#request = request;
    await this.#ask("get-policies", {}, "Changes hold at once, for this conversation.");
    if (!this.#fields.children.length) this.#say("This bot has no policies to set.");
  }

  close() {
    this.#request = null;
    this.#fields.replaceChildren();
    this.#form.querySelector(".reset").disabled = true;
    this.#say("Connect to see what interrupts this bot, and to try other settings.");
  }

  #change(input) {
    const [group, name, option] = JSON.parse(input.dataset.path);
    const value = input.type === "checkbox" ? input.checked : input.type === "number" ? input.valueAsNumber : input.value;
    const wanted = option ? { [group]: { [name]: { [option]: value } } } : { [group]: name ? { [name]: value } : value };
    this.#ask("set-policies", wanted, "Set.", input);
  }

  async #ask(type, wanted, done, input) {
    const request = this.#request;
    try {
      const settings = await request(type, wanted);
      if (request !== this.#request) return;
      this.#draw(settings);
      this.#say(done);
    } catch (error) {
      if (request !== this.#request || !input) return;
      input.setAttribute("aria-invalid", "true");
      this.#say(error.message, true);
    }
  }

  #say(text, wrong = false) {
    this.#told.textContent = text;
    this.#told.classList.toggle("wrong", wrong);
  }

  /** Anew, but the focus stays where it is. */
  #draw(settings) {
    const focused = document.activeElement?.dataset.path;
    this.#fields.replaceChildren();
    for (const [phase, title] of Object.entries(PHASES)) {
      const set = this.#set(title);
      for (const rule of settings[phase]) this.#rule(set, [phase, rule.policy], rule);
    }
    const after = this.#set("Otherwise");
    this.#rule(after, ["resume"], { policy: "Resume", ...settings.resume });
    const duck = add(after, "div", "rule on");
    this.#option(duck, ["duck"], "duck", settings.duck, "gain of the voice while undecided; 0 holds it");
    this.#form.querySelector(".reset").disabled = !settings.changed;
    if (focused) this.#fields.querySelector(`[data-path='${focused}']`)?.focus();
  }

  #set(title) {
    const set = add(this.#fields, "fieldset");
    add(set, "legend", "", title);
    return set;
  }

  #rule(set, path, { policy, about, on, speech_only: speechOnly, options }) {
    const rule = add(set, "div", on ? "rule on" : "rule");
    this.#flag(rule, [...path, "on"], spoken(policy), on);
    add(rule, "p", "dim", about);
    if (!on) return;
    for (const [name, value] of Object.entries(options)) this.#option(rule, [...path, name], name, value);
    if (speechOnly != null) this.#flag(rule, [...path, "speech_only"], "stops only the voice", speechOnly, policy);
  }

  #flag(parent, path, text, value, of = "") {
    const label = add(parent, "label", "flag");
    const input = add(label, "input");
    input.type = "checkbox";
    input.checked = value;
    input.dataset.path = JSON.stringify(path);
    if (of) input.ariaLabel = `${spoken(of)}: ${text}`;
    label.append(` ${text}`);
  }

  #option(parent, path, name, value, about = "") {
    const label = add(parent, "label", "option");
    const unit = UNITS[name.split("_").at(-1)];
    const words = spoken(unit ? name.split("_").slice(0, -1).join("_") : name);
    add(label, "span", "", about ? `${words} (${about})` : words || "time");
    const input = add(label, "input");
    input.type = typeof value === "number" ? "number" : "text";
    if (input.type === "number") input.step = "any";
    input.value = value;
    input.dataset.path = JSON.stringify(path);
    input.ariaLabel = `${path.slice(0, -1).map(spoken).join(", ")} ${words || "time"} ${unit ?? ""}`.trim();
    add(label, "span", "dim unit", unit ?? "");
  }
}
