// How the page says things that it says in several places.

const WHY = {
  user_speaking: "you spoke",
  user_clicked_stop: "you pressed Stop",
  priority_message: "you wrote",
  client_request: "the client asked for it",
  timeout: "it took too long",
};

/** Why something was interrupted. */
export function why(reason) {
  return WHY[reason] ?? reason.replaceAll("_", " ");
}

/** Milliseconds as a person reads them. */
export function inMs(ms) {
  return `${Math.round(ms)} ms`;
}

/** "certain_ms" or "MinimumWords" as words. */
export function spoken(name) {
  const words = name.replaceAll("_", " ").replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
  return /^[A-Z]/.test(name) ? words[0].toUpperCase() + words.slice(1) : words;
}

/** A new element at the end of its parent. */
export function add(parent, tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return parent.appendChild(element);
}
