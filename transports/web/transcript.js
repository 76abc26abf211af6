// The conversation on the page: user turns, and answers of the bot with their heard part marked.

import { why } from "./words.js";

export class Transcript {
  #list;
  #follows = true; // what is new, until the user scrolls back
  #top = 0; // where it was last scrolled to
  #user = null; // the turn that further user text belongs to
  #answers = new Map(); // by response id

  constructor(list) {
    this.#list = list;
    list.onscroll = () => {
      if (!list.clientHeight) return;
      // Not by the distance alone: text may have come since it was scrolled to the end.
      if (list.scrollHeight - list.scrollTop - list.clientHeight < 60) this.#follows = true;
      else if (list.scrollTop < this.#top) this.#follows = false;
      this.#top = list.scrollTop;
    };
    new ResizeObserver(() => this.#follow()).observe(list); // it may have been out of sight
  }

  clear() {
    this.#list.replaceChildren();
    this.#answers.clear();
    this.#user = null;
    this.#follows = true;
  }

  /** What the user says: an interim text replaces the one before, a final one stays. */
  userSaid(text, final) {
    if (!this.#user) {
      const item = this.#add("user");
      this.#user = { item, done: span(item, "final"), interim: span(item, "interim") };
    }
    const { done, interim } = this.#user;
    if (final) done.textContent = `${done.textContent} ${text}`.trim();
    interim.textContent = final ? "" : `${done.textContent ? " " : ""}${text}`;
    this.#follow();
  }

  /** What the user typed: a turn of its own. */
  userTyped(text) {
    this.#closeUser();
    span(this.#add("user"), "final").textContent = text;
    this.#follows = true;
    this.#follow();
  }

  answerStarted(id) {
    this.#closeUser();
    this.#answer(id);
  }

  answerText(id, text) {
    const answer = this.#answer(id);
    answer.text += text;
    this.#draw(answer);
  }

  answerEnded(id) {
    grown(this.#answer(id).item);
  }

  /** `heard` is all of the answer that the user has heard so far. */
  answerHeard(id, heard) {
    const answer = this.#answer(id);
    if (!answer.text.startsWith(heard) && letters(heard) > letters(answer.text)) answer.text = heard;
    answer.heard = matching(answer.text, heard);
    this.#draw(answer);
  }

  /** `cut`: the ids of all answers that were hit, oldest first; `heard` is of the first, which sounded. */
  interrupted({ level, reason, cut, heard }) {
    cut.forEach((id, index) => this.#cut(this.#answers.get(id), level, reason, index ? "" : heard));
  }

  #cut(answer, level, reason, heard) {
    if (!answer) return;
    if (level === "full" && !answer.text) return answer.item.remove(); // nothing of it was made yet
    answer.heard = matching(answer.text, heard);
    answer.cut = level;
    grown(answer.item);
    answer.note.textContent =
      level === "speech" ? "not spoken from here on" : `interrupted: ${why(reason)}`;
    this.#draw(answer);
  }

  failed(text) {
    span(this.#add("error"), "final").textContent = text;
    this.#follow();
  }

  /** Further user text is a new turn; an interim text that never became final is dropped. */
  #closeUser() {
    if (this.#user?.done.textContent === "") this.#user.item.remove();
    else this.#user?.interim.replaceChildren();
    this.#user = null;
  }

  #answer(id) {
    let answer = this.#answers.get(id);
    if (!answer) {
      const item = this.#add("bot");
      item.classList.add("growing");
      item.ariaBusy = "true"; // to be read out when it is complete
      const words = span(item, "words");
      // Said aloud it need not be read out besides, and again at each word that was heard.
      if (document.body.dataset.speaks !== "no") words.ariaLive = "off";
      const heard = span(words, "heard");
      const rest = span(words, "coming");
      const note = span(item, "note");
      answer = { item, heardPart: heard, rest, note, text: "", heard: 0, cut: null };
      this.#answers.set(id, answer);
    }
    return answer;
  }

  #draw(answer) {
    answer.heardPart.textContent = answer.text.slice(0, answer.heard);
    const rest = document.createElement(answer.cut === "full" ? "s" : "span");
    rest.className = answer.cut ? `unheard ${answer.cut}` : "coming";
    rest.textContent = answer.text.slice(answer.heard);
    answer.rest.replaceWith(rest);
    answer.rest = rest;
    this.#follow();
  }

  #add(who) {
    const item = document.createElement("li");
    item.className = who;
    const label = span(item, "who");
    label.textContent = { user: "You", bot: "Bot", error: "Problem" }[who];
    this.#list.append(item);
    return item;
  }

  #follow() {
    if (this.#follows) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

function span(parent, className) {
  const element = document.createElement("span");
  element.className = className;
  return parent.appendChild(element);
}

function grown(item) {
  item.classList.remove("growing");
  item.ariaBusy = "false";
}

function letters(text) {
  return [...text.matchAll(/[\p{L}\p{N}]/gu)].length;
}

/**
 * How many characters of `text` the words `heard` cover. They may differ in spaces and signs (a voice is
 * not given markup), so letters and digits are counted, and the word under way is completed.
 */
function matching(text, heard) {
  let left = letters(heard);
  if (!left) return 0;
  let end = 0;
  for (const { 0: character, index } of text.matchAll(/[\p{L}\p{N}]/gu)) {
    if (!left--) break;
    end = index + character.length;
  }
  return end + text.slice(end).match(/^[^\s\p{L}\p{N}]*\s*/u)[0].length;
}
