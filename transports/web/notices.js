// What went wrong, and what to do about it.

const NOTICES = {
  "no-microphone": ["No microphone found", "Plug one in and connect again, or go on without: you can type."],
  "permission": ["The microphone is blocked", "Allow it in the browser's site settings and connect again, or go on without: you can type."],
  "in-use": ["The microphone cannot be opened", "Another program may be using it. Close that program and connect again, or go on without: you can type."],
  "unplugged": ["The microphone is gone", "It was unplugged. Choose another one under Settings, or plug it in and connect again."],
  "insecure": ["No microphone on this address", "Browsers allow it only on https:// and on localhost. You can go on without: type instead."],
  "device": ["This device cannot be used", "Choose another one under Settings."],
  "unreachable": ["The server cannot be reached", "Is it running? Start it and connect again."],
  "gone": ["The server has gone", "The connection was lost. Start the server again if it stopped, then connect again."],
  "lost": ["The connection was lost", "The server is still there. Check your network, then connect again."],
  "over": ["The conversation is over", "The bot has ended it{detail}. Connect to begin a new one."],
  "busy": ["All places are taken", ""],
  "refused": ["The server refused the connection", ""],
};

const WITHOUT = ["no-microphone", "permission", "in-use", "insecure"]; // it can be done without

export class Notices {
  #box;

  /** `goOn`: called when the user wants to go on without a microphone. */
  constructor(box, goOn) {
    this.#box = box;
    box.querySelector("button").onclick = goOn;
  }

  /** What is not ours to know comes as `detail`; an unknown kind is a refusal. */
  show(kind, detail = "") {
    const known = kind in NOTICES ? kind : "refused";
    const [title, text] = NOTICES[known];
    this.#box.querySelector("strong").textContent = title;
    this.#box.querySelector("p").textContent = text.replace("{detail}", () => detail) || detail;
    this.#box.querySelector("button").hidden = !WITHOUT.includes(known);
    this.#box.dataset.kind = known;
    this.#box.hidden = false;
  }

  hide() {
    this.#box.hidden = true;
  }
}
