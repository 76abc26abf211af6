// One view at a time; where there is room, the first one is always beside the others.

const WIDE = matchMedia("(min-width: 60rem)");

export class Tabs {
  #tabs;

  constructor(list) {
    this.#tabs = [...list.querySelectorAll("[role=tab]")];
    for (const tab of this.#tabs) tab.onclick = () => this.show(tab);
    list.onkeydown = (event) => this.#key(event);
    WIDE.onchange = () => this.#fit();
    this.#fit();
  }

  show(tab) {
    for (const other of this.#tabs) {
      const chosen = other === tab;
      other.ariaSelected = String(chosen);
      other.tabIndex = chosen ? 0 : -1;
      const always = WIDE.matches && other === this.#tabs[0];
      document.getElementById(other.getAttribute("aria-controls")).classList.toggle("away", !chosen && !always);
    }
  }

  get #shown() {
    return this.#tabs.find((tab) => tab.ariaSelected === "true");
  }

  /** The first view is what one comes for: where it is not beside the others it is shown. */
  #fit() {
    this.show(this.#tabs[WIDE.matches ? 1 : 0]);
  }

  #key(event) {
    const tabs = WIDE.matches ? this.#tabs.slice(1) : this.#tabs;
    const at = tabs.indexOf(this.#shown);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const tab = tabs.at(to % tabs.length);
    this.show(tab);
    tab.focus();
  }
}
