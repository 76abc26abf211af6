// Draws the timeline: bars in lanes, with the words below them. It follows what goes on unless the user has
// scrolled back, and tells of the bar that is pointed at or gone to with the arrow keys.

import { add } from "./words.js";

const SHOWN_S = 60; // where there is room
const LEAST_PX_S = 18; // where there is not, a second gets this much and the rest can be scrolled to
const KEPT_S = 300;
const DRAW_MS = 100;
const TICK_S = 5;
const KINDS = { typed: "You wrote", full: "Everything cut", speech: "Only the voice cut" };
const NAMES = { you: "You", bot: "Bot", held: "Voice held", model: "Model", tools: "Tool" };

export class TimelineView {
  #section;
  #scroller;
  #track;
  #detail;
  #bars = new Map(); // by element
  #elements = new Map(); // of a bar: its element and its label
  #last = {}; // the last label in each lane
  #at = () => 0;
  #timer = 0;
  #ticks = 0;
  #count = 0;
  #current = null; // the element that is told of

  constructor(section) {
    this.#section = section;
    this.#scroller = section.querySelector(".scroller");
    this.#track = section.querySelector(".track");
    this.#detail = section.querySelector(".detail");
    this.#track.onkeydown = (event) => this.#key(event);
    this.#track.onfocus = () => this.#show(this.#current ?? this.#options.at(-1));
    this.#track.onblur = () => this.#show(null);
    this.#track.onpointerover = ({ target }) => this.#bars.has(target) && this.#show(target);
    this.#track.onpointerleave = () => document.activeElement === this.#track || this.#show(null);
    new ResizeObserver(() => this.#fit()).observe(this.#scroller);
  }

  /** A new conversation; `at` gives the time in it, in s. */
  begin(at) {
    this.#at = at;
    for (const [element, bar] of this.#bars) this.#remove(element, bar);
    this.#track.querySelectorAll(".tick").forEach((tick) => tick.remove());
    this.#last = {};
    this.#ticks = 0;
    this.#show(null);
    this.#set(this.#track, "origin", 0);
    this.#section.hidden = false;
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#draw(), DRAW_MS);
    this.#draw();
  }

  end() {
    if (!this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#draw();
  }

  add(bar) {
    const element = add(this.#track, "div", `bar ${bar.lane} ${bar.kind ?? ""}`);
    element.role = "option";
    element.id = `bar-${++this.#count}`;
    element.ariaSelected = "false";
    this.#set(element, "begin", bar.begin);
    if (this.#last[bar.lane]) this.#set(this.#last[bar.lane], "until", bar.begin);
    this.#bars.set(element, bar);
    this.#elements.set(bar, { element, label: null });
    this.update(bar);
  }

  update(bar) {
    if (!this.#elements.has(bar)) this.add(bar);
    const { element } = this.#elements.get(bar);
    element.classList.toggle("open", bar.end === null);
    element.classList.toggle("aside", Boolean(bar.aside));
    if (bar.end !== null) this.#set(element, "end", bar.end);
    element.ariaLabel = this.#told(bar) + (bar.unheard?.trim() ? `, not heard: ${bar.unheard.trim()}` : "");
    if (bar.text || bar.label) this.#label(bar);
    if (element === this.#current) this.#show(element);
  }

  #label(bar) {
    const drawn = this.#elements.get(bar);
    if (!drawn.label) {
      drawn.label = add(this.#track, "span", `label ${bar.lane}`);
      drawn.label.ariaHidden = "true";
      this.#set(drawn.label, "begin", bar.begin);
      this.#last[bar.lane] = drawn.label;
    }
    drawn.label.textContent = bar.text.trim() || bar.label;
  }

  #draw() {
    const now = this.#at();
    const follows = this.#scroller.scrollLeft + this.#scroller.clientWidth > this.#scroller.scrollWidth - 40;
    this.#set(this.#track, "now", now);
    for (; this.#ticks * TICK_S <= now; this.#ticks++) {
      const tick = add(this.#track, "span", "tick", `${this.#ticks * TICK_S} s`);
      tick.ariaHidden = "true";
      this.#set(tick, "begin", this.#ticks * TICK_S);
    }
    if (follows) this.#scroller.scrollLeft = this.#scroller.scrollWidth;
    this.#forget(now - KEPT_S);
  }

  /** What is long past goes; not each second, as all others move. */
  #forget(before) {
    if (before < Number(this.#track.style.getPropertyValue("--origin")) + SHOWN_S) return;
    for (const [element, bar] of this.#bars) if (bar.end !== null && bar.end < before) this.#remove(element, bar);
    for (const tick of this.#track.querySelectorAll(".tick")) {
      if (Number(tick.style.getPropertyValue("--begin")) < before) tick.remove();
    }
    this.#set(this.#track, "origin", before);
  }

  #remove(element, bar) {
    if (element === this.#current) this.#show(null);
    this.#elements.get(bar).label?.remove();
    this.#elements.delete(bar);
    this.#bars.delete(element);
    element.remove();
  }

  #fit() {
    this.#set(this.#track, "px", Math.max(LEAST_PX_S, this.#scroller.clientWidth / (SHOWN_S + 1)));
    this.#scroller.scrollLeft = this.#scroller.scrollWidth;
  }

  get #options() {
    return [...this.#bars].sort(([, a], [, b]) => a.begin - b.begin).map(([element]) => element);
  }

  #key(event) {
    const options = this.#options;
    const at = options.indexOf(this.#current);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: options.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const element = options[Math.min(Math.max(to, 0), options.length - 1)];
    this.#show(element);
    element?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Tell of this bar, or of none. */
  #show(element) {
    if (this.#current) this.#current.ariaSelected = "false";
    this.#current = element ?? null;
    this.#detail.hidden = !element;
    this.#section.querySelector(".legend").hidden = Boolean(element);
    if (!element) return this.#track.removeAttribute("aria-activedescendant");
    element.ariaSelected = "true";
    this.#track.setAttribute("aria-activedescendant", element.id);
    this.#tell(this.#bars.get(element));
  }

  #tell(bar) {
    this.#detail.textContent = this.#told(bar);
    const unheard = bar.unheard?.trim();
    if (!unheard) return;
    this.#detail.textContent += ", not heard: ";
    add(this.#detail, "s", "", unheard);
  }

  #told({ lane, kind, begin, end, text = "", note }) {
    const quoted = text.trim() && (["you", "bot"].includes(lane) ? `“${text.trim()}”` : text);
    const lasts = end === null ? "goes on" : end > begin ? `${(end - begin).toFixed(2)} s` : "";
    const name = KINDS[kind] ?? NAMES[lane];
    return [name, quoted, lasts, `at ${begin.toFixed(1)} s`, note].filter(Boolean).join(", ");
  }

  #set(element, name, value) {
    element.style.setProperty(`--${name}`, String(Math.round(1000 * value) / 1000));
  }
}
