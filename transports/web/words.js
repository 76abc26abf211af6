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

const WENT_ON = {
  noise: "a noise",
  words: "too little to interrupt",
  backchannel: "you were only following along",
  background: "somebody else spoke",
  muted: "speech is muted here",
  critical: "this is said to its end",
  "short rest": "it was about to end",
  "an answer at the end": "it was about to end",
  grace: "it had only just begun",
  debounce: "it was too short",
  "no words in time": "no words in it",
  "no word followed": "a false alarm, no word followed",
  "held too long": "it had waited long enough",
  idle: "it had nothing more to say",
};

/** Why the bot went on although there was a sound. */
export function wentOn(reason) {
  return WENT_ON[reason] ?? reason;
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
