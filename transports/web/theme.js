// Light, dark, or as the system has it. Loaded before the page is drawn.

import { recall, remember } from "./storage.js";

const NEXT = { system: "light", light: "dark", dark: "system" };
const NAMES = { system: "as the system", light: "light", dark: "dark" };

const page = document.documentElement;

function use(theme) {
  page.dataset.theme = theme in NEXT ? theme : "system";
}

/** The button goes through the themes. */
export function wireTheme(button) {
  const name = () => {
    button.ariaLabel = button.title = `Theme: ${NAMES[page.dataset.theme]}`;
  };
  button.onclick = () => {
    use(NEXT[page.dataset.theme]);
    remember("theme", page.dataset.theme);
    name();
  };
  name();
}

use(recall("theme"));
